"""A client of Kafka as every workflow uses it: started, watched, read from, ended, and its errors told apart."""

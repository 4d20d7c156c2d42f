"""Trying any archiver over Kafka: requests as retention makes them, answers judged as it judges them.

Rows and requests are real, in a database and on topics that are made for this and deleted again.
"""

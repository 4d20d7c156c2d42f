"""Testing any archiver over Kafka: with retention's own requests, and its own checks of the answers.

Rows and requests are real, in a database and on topics that are created for the test and deleted again.
"""

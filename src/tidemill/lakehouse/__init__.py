"""The lake: copies of slices as Parquet files, written, read back and measured. Knows no database and no broker.

Only the processes that archive import it, since it loads pyarrow. All of it is synchronous: call it from a thread.
"""

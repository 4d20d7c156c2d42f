"""The demo: the whole path once, on real data, and a proof that exactly the planned counts came out.

quotes    the real data: thirteen years of daily quotes, and pandas' results for them
plan      the records to publish, each with its expected outcome; `profiles` is the part about connectors
place     a database and topics of the run's own; servers that answer
feed      publish the records
over_http write one quote over HTTP, twice, and read it back; `over_http_proof` judges the answers
processes the processes, as a user would start them
watch     the progress of every step
proof     what came out, read back from topics and read models
report    the result as data
run       all of this in order
"""

"""The demo: all of it once, on real data, and a proof at the end that exactly what was planned came out.

quotes    the real data: thirteen years of daily quotes, and what pandas says of them
plan      the records to publish, each with what must become of it; `profiles` is the part about connectors
place     a database and topics of the run's own; servers that answer
feed      publish the records
serving   the two processes, as a user would start them
watch     how far every hop is
proof     what came out, read back from topics and read models
report    the result as data
run       all of this in order
"""

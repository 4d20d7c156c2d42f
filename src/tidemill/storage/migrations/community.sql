-- name: edition
-- Whether this is the Community edition, and the names of the features of tables that it alone has, as
-- `domain.community` calls them. The Apache edition has these views too, without a row.
select coalesce(current_setting('timescaledb.license', true) = 'timescale', false) as is_community,
  array(
    select 'compression of ' || j.hypertable_schema || '.' || j.hypertable_name
    from timescaledb_information.jobs j where j.proc_name = 'policy_compression' and j.hypertable_name is not null
    union all
    select 'continuous aggregate ' || v.view_schema || '.' || v.view_name
    from timescaledb_information.continuous_aggregates v) as present

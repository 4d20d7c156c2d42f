"""What a service asks of the database service itself: schema, health, statistics, migrations, performance, pools."""

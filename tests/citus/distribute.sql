SELECT create_distributed_table('users', 'bucket', shard_count => 4);
SELECT create_distributed_table('age_counts', 'bucket', colocate_with => 'users');
SELECT create_reference_table('schema_version');

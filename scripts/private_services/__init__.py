"""Private RabbitMQ and Redis instances; `scripts/services` is the command. Nothing here knows about Selvage's own programs."""

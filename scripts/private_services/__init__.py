"""Private RabbitMQ and Redis instances; `scripts/services` is the command. Nothing here depends on Selvage's own programs."""

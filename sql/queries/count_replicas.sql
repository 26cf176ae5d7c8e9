-- How many daemons were heard of lately, and how many of them stand aside; and
-- how full the queue of notifications is. For metrics.
-- $1 seconds without a word after which a daemon counts as gone
SELECT count(*) FILTER (WHERE NOT aside) AS reconciling, count(*) FILTER (WHERE aside) AS aside,
       pg_notification_queue_usage() AS queue_usage
FROM kindler_replicas
WHERE seen_at > clock_timestamp() - make_interval(secs => $1)

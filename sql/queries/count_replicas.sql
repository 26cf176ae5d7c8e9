-- Number of live daemons that reconcile and of those on standby. For metrics.
-- $1 seconds without a heartbeat after which a daemon counts as gone
SELECT count(*) FILTER (WHERE NOT aside) AS reconciling, count(*) FILTER (WHERE aside) AS standby
FROM kindler_replicas
WHERE seen_at > clock_timestamp() - make_interval(secs => $1)

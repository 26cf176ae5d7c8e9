-- Number of clusters that are due and not leased, since when the oldest of them is
-- due, and when the next one becomes due. A row that was never reconciled is due since
-- its last change. For status.
SELECT count(*) FILTER (WHERE c.due_at <= now()) AS due,
       min(CASE WHEN isfinite(c.due_at) THEN c.due_at ELSE c.updated_at END)
           FILTER (WHERE c.due_at <= now()) AS oldest_due_at,
       min(c.due_at) FILTER (WHERE c.due_at > now()) AS next_due_at
FROM clusters c
WHERE c.due_at IS NOT NULL
  AND NOT EXISTS (
      SELECT FROM cluster_leases l WHERE l.cluster_name = c.name AND l.expires_at > now())

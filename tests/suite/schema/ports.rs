//! The cost of finding free ports and a free network among many clusters.

use kindler::store::free_port_statements;
use serde_json::Value;

use super::migrated;
use crate::kit::Sql;

const CLUSTERS: i64 = 200_000;

/// Number of rows that all nodes of a plan returned or filtered out.
fn rows(node: &Value) -> f64 {
    let each = [
        "Actual Rows",
        "Rows Removed by Filter",
        "Rows Removed by Join Filter",
    ];
    let own: f64 = each.iter().filter_map(|field| node[field].as_f64()).sum();
    let below = node["Plans"].as_array().into_iter().flatten();
    own * node["Actual Loops"].as_f64().unwrap_or(1.0) + below.map(rows).sum::<f64>()
}

#[tokio::test]
async fn free_ports_are_found_by_a_few_scans_of_200_000_clusters() {
    let (database, client) = migrated().await;
    client
        .run(&format!(
            "SET statement_timeout = 0; ALTER TABLE clusters DISABLE TRIGGER USER;
             INSERT INTO clusters (name, provider, subnet, pf_port, http_port, https_port)
             SELECT CASE WHEN n % 2 = 0 THEN 'cluster-' || n / 2 ELSE 'c' || n END, 'kind',
                    format('10.%s.%s.%s/28', 101 + n % 90, n / 90 % 256, n / 23040 * 16)::cidr,
                    19000 + n % 900, 18090 + n % 300, 18443 + n % 500
             FROM generate_series(1, {CLUSTERS}) n;
             ANALYZE clusters"
        ))
        .await;
    let store = database.store(1);
    let free = store.suggest().await.unwrap();
    assert_eq!(free.name.as_deref(), Some("cluster-100001"));
    let ports = free.ports.iter();
    let ports: Vec<_> = ports
        .map(|(field, ports)| (field.name, &ports[..2]))
        .collect();
    assert_eq!(
        ports,
        [
            ("pf_port", &[19900, 19901][..]),
            ("http_port", &[18390, 18391]),
            ("https_port", &[18943, 18944]),
        ]
    );
    assert_eq!(free.subnet.as_deref(), Some("10.191.0.0/16"));

    let [find, suggest] = free_port_statements();
    let find = find.replace("$1", "'{}'");
    let found = format!(
        "SELECT pf * 10000000000 + http * 100000::bigint + https FROM ({find}) f (pf, http, https)"
    );
    assert_eq!(client.number(&found).await, 199_001_839_018_943);
    for query in [&find, suggest] {
        let explain = format!("EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {query}");
        let plan: Value = client.value(&explain).await;
        let read = rows(&plan[0]["Plan"]);
        assert!(read < 30.0 * CLUSTERS as f64, "{read} rows: {plan:#}");
    }
}

#[tokio::test]
async fn a_suggested_network_overlaps_no_other() {
    let (database, client) = migrated().await;
    let store = database.store(1);
    // Each subnet is declared in addition to the previous ones.
    for (n, (subnet, free)) in [
        ("192.168.0.0/16", Some("10.101.0.0/16")),
        ("11.0.0.0/8", Some("10.101.0.0/16")),
        ("10.102.255.240/28", Some("10.101.0.0/16")),
        ("10.101.0.0/16", Some("10.103.0.0/16")),
        ("10.96.0.0/11", Some("10.128.0.0/16")),
        ("10.128.5.0/24", Some("10.129.0.0/16")),
        ("10.129.0.0/17", Some("10.130.0.0/16")),
        ("10.130.0.0/15", Some("10.132.0.0/16")),
        ("10.0.0.0/8", None),
    ]
    .into_iter()
    .enumerate()
    {
        let declare = format!(
            "INSERT INTO clusters (name, provider, subnet) VALUES ('a{n}', 'kind', '{subnet}'), ('b{n}', 'kind', NULL)"
        );
        client.run(&declare).await;
        let found = store.suggest().await.unwrap().subnet;
        assert_eq!(found.as_deref(), free, "beside {subnet}");
    }
}

//! The cost of finding free ports and a free network among many clusters.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use kindler::clusters::{Port, Spec, SpecValue};
use kindler::store::suggest_statement;
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

    let explain = format!(
        "EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {}",
        suggest_statement()
    );
    let plan: Value = client.value(&explain).await;
    let read = rows(&plan[0]["Plan"]);
    assert!(read < 30.0 * CLUSTERS as f64, "{read} rows: {plan:#}");

    // A session of its own: counts of earlier statements may not be flushed yet.
    let client = database.connect().await;
    let insert = "ALTER TABLE clusters ENABLE TRIGGER USER; BEGIN;
        INSERT INTO clusters (name, provider) VALUES ('new', 'kind')";
    client.run(insert).await;
    let read = "SELECT seq_tup_read FROM pg_stat_xact_user_tables WHERE relname = 'clusters'";
    let read = client.number(read).await;
    assert!(read <= 10 * CLUSTERS, "{read} rows");
    assert_eq!(ports_of(&client, "new").await, "19900 18080 18943");
    client.run("ROLLBACK").await;
}

async fn ports_of(sql: &impl Sql, name: &str) -> String {
    let ports = "SELECT concat_ws(' ', pf_port, http_port, https_port) FROM clusters WHERE name";
    sql.text(&format!("{ports} = '{name}'")).await
}

#[tokio::test]
async fn plain_inserts_never_share_a_port() {
    let (_database, client) = migrated().await;
    client.declare("first").await;
    assert_eq!(ports_of(&client, "first").await, "19000 18080 18443");
    // Two rows of one statement, and more rows than a range has ports.
    client
        .run("INSERT INTO clusters (name, provider) SELECT 'c' || n, 'kind' FROM generate_series(1, 400) n")
        .await;
    assert_eq!(ports_of(&client, "c1").await, "19001 18090 18444");
    let shared = "SELECT count(*) FROM (SELECT FROM clusters, LATERAL (VALUES ('pf', pf_port), ('web', http_port),
        ('web', https_port)) AS p (pool, port) GROUP BY pool, port HAVING count(*) > 1) AS shared";
    assert_eq!(client.number(shared).await, 0);
    let valid = "SELECT count(*) FROM clusters WHERE pf_port BETWEEN 19000 AND 19999
        AND http_port BETWEEN 18080 AND 29999 AND https_port BETWEEN 18443 AND 29999";
    assert_eq!(client.number(valid).await, 401);
}

/// A free port, found by trying each.
fn lowest(first: &[u16], range: RangeInclusive<u16>, used: &[&BTreeSet<u16>]) -> u16 {
    let all = first.iter().copied().chain(range).chain(20_000..=29_999);
    let free = |port: &u16| used.iter().all(|used| !used.contains(port));
    all.into_iter().find(free).unwrap()
}

/// The search of a later row begins where that of an earlier one ended.
#[tokio::test]
async fn many_rows_of_one_statement_get_the_lowest_free_ports() {
    let (_database, client) = migrated().await;
    // Gaps, a port of the other field of the pool, and one of the wide range.
    client
        .run(
            "INSERT INTO clusters (name, provider, pf_port, http_port, https_port) VALUES
             ('a', 'k3d', 19003, 18443, 18100), ('b', 'k3d', 19500, 18093, 20001), ('c', 'k3d', 20002, 20005, 18600);
             INSERT INTO clusters (name, provider)
             SELECT 'n' || lpad(n::text, 4, '0'), 'kind' FROM generate_series(1, 1200) n",
        )
        .await;
    let found =
        "SELECT string_agg(concat_ws(' ', pf_port, http_port, https_port), ',' ORDER BY name)
        FROM clusters WHERE name LIKE 'n%'";
    let mut pf = BTreeSet::from([19_003, 19_500, 20_002]);
    let mut web = BTreeSet::from([18_443, 18_100, 18_093, 20_001, 20_005, 18_600]);
    for (row, found) in client.text(found).await.split(',').enumerate() {
        let pf_port = lowest(&[19_000], 19_001..=19_999, &[&pf]);
        let mut own = BTreeSet::from([pf_port]);
        let http_port = lowest(&[18_080], 18_090..=18_442, &[&web, &own]);
        own.insert(http_port);
        let https_port = lowest(&[18_443], 18_443..=18_999, &[&web, &own]);
        assert_eq!(
            found,
            format!("{pf_port} {http_port} {https_port}"),
            "row {row}"
        );
        pf.insert(pf_port);
        web.extend([http_port, https_port]);
    }
    assert_eq!(pf.len(), 1203);
}

#[tokio::test]
async fn free_ports_are_chosen_as_the_fields_say() {
    let (_database, client) = migrated().await;
    client.declare("first").await;
    client.declare("second").await;
    for field in Spec::FIELDS {
        let Some(host) = field.host_port_of() else {
            continue;
        };
        let name = field.name;
        let of =
            |cluster: &str| format!("SELECT {name}::text FROM clusters WHERE name = '{cluster}'");
        assert_eq!(client.text(&of("first")).await, field.default().to_string());
        let next = host.free.clone().find(|port| {
            SpecValue::Port(Port::new(name, (*port).into()).unwrap()) != field.default()
        });
        assert_eq!(client.text(&of("second")).await, next.unwrap().to_string());
        // A port of the same pool, also as another field, is not free.
        let pool: Vec<_> = Spec::FIELDS
            .iter()
            .filter(|other| other.host_port_of().is_some_and(|of| of.pool == host.pool))
            .collect();
        for other in pool {
            let set = format!(
                "UPDATE clusters SET {} = 30001 WHERE name = 'first';
                SELECT kindler_free_port('{}', 30001, 30001, 30002, '{{}}')::text",
                other.name, host.pool
            );
            let (update, free) = set.split_once(';').unwrap();
            client.run(update).await;
            assert_eq!(
                client.text(free).await,
                "30002",
                "{} in {}",
                other.name,
                host.pool
            );
            client
                .run(&format!(
                    "UPDATE clusters SET {} = DEFAULT WHERE name = 'first'",
                    other.name
                ))
                .await;
        }
    }
}

#[tokio::test]
async fn given_ports_are_kept_and_an_upsert_keeps_those_of_the_row() {
    let (_database, client) = migrated().await;
    let upsert = "INSERT INTO clusters (name, provider) VALUES ('dev', 'k3d')
        ON CONFLICT (name) DO UPDATE SET http_port = excluded.http_port, pf_port = excluded.pf_port, server_ip = '10.0.0.8'";
    client
        .run("INSERT INTO clusters (name, provider, http_port) VALUES ('dev', 'k3d', 18300)")
        .await;
    assert_eq!(ports_of(&client, "dev").await, "19000 18300 18443");
    client.run(upsert).await;
    assert_eq!(ports_of(&client, "dev").await, "19000 18300 18443");
    assert_eq!(client.number("SELECT generation FROM clusters").await, 1);
    // DEFAULT gives another free port.
    client
        .run("UPDATE clusters SET https_port = DEFAULT, http_port = NULL")
        .await;
    assert_eq!(ports_of(&client, "dev").await, "19000 18080 18444");
}

#[tokio::test]
async fn a_port_that_is_in_use_warns_the_session() {
    let (database, _) = migrated().await;
    let (client, said) = super::triggers::noticing(&database).await;
    let warned = || std::mem::take(&mut *said.lock().unwrap());
    client.declare("a").await;
    client.declare("b").await;
    assert_eq!(warned(), Vec::<String>::new());
    for statement in [
        "INSERT INTO clusters (name, provider, https_port) VALUES ('c', 'k3d', 18080)",
        "UPDATE clusters SET https_port = 18080 WHERE name = 'b'",
        "INSERT INTO clusters (name, provider, http_port, https_port) VALUES ('d', 'k3d', 18080, 18443), ('e', 'k3d', 18081, 18082)",
    ] {
        client.run(statement).await;
        let said = warned();
        assert!(
            said[0].contains("18080 of cluster")
                && said[0].contains("is also declared by cluster a"),
            "{said:?}"
        );
        assert!(said[0].contains("= DEFAULT WHERE name"), "{said:?}");
    }
    // On another host.
    client
        .run("UPDATE clusters SET placed_by = 'host=x'; INSERT INTO clusters (name, provider, http_port) VALUES ('f', 'k3d', 18080);
              UPDATE clusters SET actual_state = 'failed', http_port = http_port")
        .await;
    assert_eq!(warned(), Vec::<String>::new());
}

#[tokio::test]
async fn conflicts_of_one_placement_are_listed() {
    let (database, client) = migrated().await;
    let store = database.store(1);
    client
        .run("INSERT INTO clusters (name, provider, pf_port, http_port, https_port, placed_by) VALUES
              ('a', 'k3d', 1, 2, 3, NULL), ('b', 'k3d', 4, 5, 2, NULL), ('c', 'k3d', 1, 7, 8, 'host=x')")
        .await;
    let found = store.port_conflicts(None, 10).await.unwrap();
    let found: Vec<_> = found.iter().map(|one| one.what()).collect();
    assert_eq!(
        found,
        [
            "http_port 2 of cluster a is also declared by cluster b",
            "https_port 2 of cluster b is also declared by cluster a"
        ]
    );
    let b = store
        .port_conflicts(Some(&["b".parse().unwrap()]), 10)
        .await
        .unwrap();
    assert_eq!(b.len(), 1);
    client.run(&b[0].mend()).await;
    assert_eq!(store.port_conflicts(None, 10).await.unwrap(), []);
}

#[tokio::test]
async fn a_declaration_that_does_not_commit_is_named() {
    let (database, client) = migrated().await;
    let other = database.connect().await;
    other
        .run("SET application_name = 'forgotten'; BEGIN; INSERT INTO clusters (name, provider) VALUES ('a', 'k3d')")
        .await;
    let refused = client
        .refused("INSERT INTO clusters (name, provider) VALUES ('b', 'k3d')")
        .await;
    assert!(
        refused.contains("another declaration has not committed: pid")
            && refused.contains("forgotten"),
        "{refused}"
    );
    // Who gives every port does not wait.
    client
        .run("INSERT INTO clusters (name, provider, pf_port, http_port, https_port) VALUES ('b', 'k3d', 1, 2, 3)")
        .await;
    other.run("COMMIT").await;
    client.declare("c").await;
    assert_eq!(ports_of(&client, "c").await, "19001 18090 18444");
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

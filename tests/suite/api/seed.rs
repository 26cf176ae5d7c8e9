//! The import of the old system's list of clusters at start.

use std::fs;

use super::{SOON, migrated};
use crate::kit::{Daemon, DaemonBuilder, Database, Host, Sql, eventually};

const LIST: &str = "# env,provider,node_port,pf_port,register_portainer,haproxy_route,http_port,https_port,cluster_subnet\r\n\
    devops,k3d,30800,19800,no,yes,18800,18801,\r\n\n\
    dev,kind,30081,19001,true,off,18091,18444,\n\
     uat , k3d , 30082 , 19002 , 1 , YES , 18092 , 18445 , 10.101.0.0/16 \n\
    gone,kind,30083,19003,true,true,18093,18446,\n";

const ROWS: &str = "SELECT string_agg(concat_ws(' ', name, provider, node_port, http_port,
    register_portainer, haproxy_route, coalesce(subnet::text, '-')), E'\n' ORDER BY name) FROM clusters";

fn seeded(database: &Database, host: &Host) -> DaemonBuilder {
    Daemon::builder(&database.url(), host).set("KINDLER_SEED_CSV", "environments.csv")
}

#[tokio::test]
async fn the_old_csv_is_imported_once() {
    let (database, host) = (migrated().await, Host::new());
    fs::write(host.path().join("environments.csv"), LIST).unwrap();
    // Existing clusters are unchanged, and deleted ones are not declared again.
    database
        .run("INSERT INTO clusters (name, provider, http_port) VALUES ('dev', 'k3d', 18777), ('gone', 'kind', 18778)")
        .await;
    database
        .run("DELETE FROM clusters WHERE name = 'gone'")
        .await;
    let rows = "dev k3d 30080 18777 t t -\ndevops k3d 30800 18800 f t -\nuat k3d 30082 18092 t t 10.101.0.0/16";
    let daemon = seeded(&database, &host).spawn();
    daemon.ready().await;
    database.wait_text(ROWS, rows).await;
    let actors = "SELECT string_agg(DISTINCT actor, ',') FROM cluster_revisions WHERE cluster_name IN ('uat', 'devops')";
    assert_eq!(database.text(actors).await, "seed");
    daemon.stop().await;

    // A second start declares nothing, not even a cluster deleted meanwhile.
    database
        .run("DELETE FROM clusters WHERE name = 'uat'")
        .await;
    let daemon = seeded(&database, &host).spawn();
    daemon.ready().await;
    eventually(SOON, "the list to be read again", || async {
        daemon.log().contains("the seed list is declared")
    })
    .await;
    let left = "SELECT string_agg(name, ' ' ORDER BY name) FROM clusters";
    database.wait_text(left, "dev devops").await;
}

#[tokio::test]
async fn an_invalid_csv_names_its_line_and_declares_nothing() {
    let (database, host) = (migrated().await, Host::new());
    let wrong =
        "a,kind,30081,19001,true,off,18091,18444,\nb,kind,99999,19001,true,off,18091,18444,\n";
    fs::write(host.path().join("environments.csv"), wrong).unwrap();
    let mut daemon = seeded(&database, &host).spawn();
    assert!(!daemon.ended(SOON).await.success());
    let log = daemon.log();
    for part in ["line 2", "node_port 99999", "65535"] {
        assert!(log.contains(part), "{log} lacks {part}");
    }
    let rows = database.number("SELECT count(*) FROM clusters").await;
    assert_eq!(rows, 0);
}

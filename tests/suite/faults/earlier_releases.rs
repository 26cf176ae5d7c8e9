//! Replicas of an earlier release and of the newest one work on the same clusters, during an
//! upgrade, and for longer than an upgrade allows. Needs programs of earlier releases, as paths
//! in `KINDLER_EARLIER_RELEASES`, separated by `:`. `schema/releases.rs` runs their statements.

use std::collections::HashSet;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use kindler::core::database::Database as Url;
use kindler::store::migrate;
use tokio_postgres::Client;

use super::{converged, quick, report, rounds};
use crate::kit::{Daemon, Database, Host, PrivateServer, Sql, TIMEOUT, eventually};

const CLUSTERS: usize = 30;

/// The commands that start in a round of changes.
const STARTED: usize = 5;

/// A role that reads of the migrations only those that its release knows, so that its
/// replicas do not notice the newer schema.
fn unaware(version: i64) -> String {
    format!(
        "GRANT ALL ON SCHEMA public TO earlier;
         GRANT ALL ON ALL TABLES IN SCHEMA public TO earlier;
         GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO earlier;
         GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO earlier;
         ALTER TABLE kindler_migrations ENABLE ROW LEVEL SECURITY;
         DROP POLICY IF EXISTS known ON kindler_migrations;
         CREATE POLICY known ON kindler_migrations FOR SELECT TO earlier USING (version <= {version})"
    )
}

/// Notes each lease: the journal of the commands has its term, the lease its owner.
const NOTE_LEASES: &str = "
    CREATE TABLE issued (number bigserial, name text, owner text, term bigint);
    GRANT ALL ON issued, issued_number_seq TO earlier;
    CREATE FUNCTION note_lease() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO issued (name, owner, term) VALUES (NEW.cluster_name, NEW.owner, NEW.term);
        RETURN NULL;
    END $$;
    CREATE TRIGGER note_lease AFTER INSERT OR UPDATE OF term ON cluster_leases
        FOR EACH ROW EXECUTE FUNCTION note_lease()";

/// Terms that are not larger than an earlier one of the cluster.
const STALE_TERMS: &str = "
    SELECT count(*) FROM (
        SELECT term, max(term) OVER (PARTITION BY name ORDER BY number
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before FROM issued
    ) terms WHERE term <= before";

async fn change_some(sql: &Client) {
    for n in 1..=CLUSTERS {
        if fastrand::u8(..8) == 0 {
            let desired = ["present", "absent", "stopped"][fastrand::usize(..3)];
            sql.run(&format!(
                "INSERT INTO clusters (name, provider, desired_state, pf_port, http_port, https_port)
                 VALUES ('c{n}', 'kind', '{desired}', {}, {}, {})
                 ON CONFLICT (name) DO UPDATE SET desired_state = excluded.desired_state",
                1000 + n,
                20_000 + n,
                40_000 + n
            ))
            .await;
        }
    }
}

struct Upgrade<'a> {
    program: &'a Path,
    host: Host,
    database: Database,
    sql: Client,
    /// Each with whether it is of the earlier release.
    replicas: Vec<(Daemon, bool)>,
    earlier_pids: HashSet<String>,
}

impl<'a> Upgrade<'a> {
    /// Two replicas of the earlier release on its own tables.
    async fn begin(server: &PrivateServer, program: &'a Path) -> Self {
        let (database, host) = (server.database().await, Host::new());
        for verb in ["create", "delete", "start", "stop"] {
            host.control(verb, "sleep 0.2");
        }
        let migrated = Command::new(program)
            .arg("migrate")
            .env_clear()
            .env("HOME", host.path())
            .env("KINDLER_DATABASE_URL", database.url())
            .output()
            .unwrap();
        assert!(migrated.status.success(), "{migrated:?}");
        let sql = database.connect().await;
        sql.run("CREATE ROLE earlier LOGIN IN ROLE pg_monitor")
            .await;
        sql.run(NOTE_LEASES).await;
        let mut upgrade = Self {
            program,
            host,
            database,
            sql,
            replicas: Vec::new(),
            earlier_pids: HashSet::new(),
        };
        let version = upgrade.version().await;
        upgrade.sql.run(&unaware(version)).await;
        for _ in 0..2 {
            upgrade.start(true).await;
        }
        upgrade
    }

    async fn version(&self) -> i64 {
        let version = "SELECT max(version)::int8 FROM kindler_migrations";
        self.sql.number(version).await
    }

    async fn start(&mut self, earlier: bool) {
        let daemon = if earlier {
            let url = self.database.url_as("earlier");
            quick(&url, &self.host)
                .of_release(self.program)
                .start()
                .await
        } else {
            quick(&self.database.url(), &self.host).start().await
        };
        if earlier {
            self.earlier_pids.insert(format!(":{}:", daemon.pid()));
        }
        self.replicas.push((daemon, earlier));
    }

    /// The number of commands that were started.
    fn started(&self) -> usize {
        let journal = self.host.journal();
        journal.iter().filter(|entry| entry.what == "start").count()
    }

    /// Changes rows and kills replicas at random; each is replaced by one of its release.
    async fn changes(&mut self, rounds: usize) {
        for round in 0..rounds {
            // The kill comes while work runs.
            let began = self.started() + STARTED;
            eventually(TIMEOUT, "further commands", || async {
                change_some(&self.sql).await;
                self.started() >= began
            })
            .await;
            if round % 4 == 3 {
                let victim = fastrand::usize(..self.replicas.len());
                let (daemon, earlier) = self.replicas.swap_remove(victim);
                daemon.kill();
                self.start(earlier).await;
            }
        }
    }

    /// Converges, checks, and counts the commands of the earlier and the newest release.
    async fn end(self) -> (usize, usize) {
        let present =
            "UPDATE clusters SET desired_state = 'present' WHERE desired_state = 'absent'";
        self.sql.run(present).await;
        converged(&self.sql, &self.host).await;
        assert_eq!(self.sql.number(STALE_TERMS).await, 0);
        let issued = self.sql.query("SELECT owner, term FROM issued", &[]).await;
        let of_earlier: HashSet<i64> = issued
            .unwrap()
            .iter()
            .filter(|row| {
                let owner: String = row.get(0);
                self.earlier_pids.iter().any(|pid| owner.contains(pid))
            })
            .map(|row| row.get(1))
            .collect();
        let journal = self.host.journal();
        let started = journal.iter().filter(|entry| entry.what == "start");
        let (earlier, newest): (Vec<_>, Vec<_>) =
            started.partition(|entry| of_earlier.contains(&entry.fence));
        (earlier.len(), newest.len())
    }
}

/// Migrates while replicas of the earlier release work, and starts new ones beside them.
async fn upgraded(program: &Path, aware: bool) {
    let server = PrivateServer::create().await;
    let mut upgrade = Upgrade::begin(&server, program).await;
    let version = upgrade.version().await;
    upgrade.changes(rounds(4, 20)).await;

    let migrated = migrate(&Url::parse(&upgrade.database.url()).unwrap())
        .await
        .unwrap();
    assert!(!migrated.applied.is_empty());
    let began = Instant::now();
    let last = migrated.applied.last().unwrap();
    let known = if aware { i64::from(*last) } else { version };
    upgrade.sql.run(&unaware(known)).await;
    for _ in 0..2 {
        upgrade.start(false).await;
    }
    let mut standby = String::new();
    if aware {
        let earlier = |one: &&(Daemon, bool)| one.1;
        while began.elapsed() < Duration::from_secs(10) {
            change_some(&upgrade.sql).await;
        }
        for (daemon, _) in upgrade.replicas.iter().filter(earlier) {
            daemon.wait_not_ready("newer than this").await;
        }
        // An earlier release that starts now is on standby from the beginning.
        let replicas = std::mem::take(&mut upgrade.replicas);
        let (left, stay): (Vec<_>, Vec<_>) = replicas.into_iter().partition(|one| one.1);
        upgrade.replicas = stay;
        let term = upgrade.sql.number("SELECT max(term) FROM issued").await;
        for (daemon, _) in left {
            assert!(daemon.stop().await.success());
        }
        let url = upgrade.database.url_as("earlier");
        let late = quick(&url, &upgrade.host).of_release(program).spawn();
        late.wait_not_ready("newer than this").await;
        upgrade.changes(rounds(4, 20)).await;
        let claims = format!(
            "SELECT count(*) FROM issued WHERE term > {term} AND owner LIKE '%:{}:%'",
            late.pid()
        );
        assert_eq!(upgrade.sql.number(&claims).await, 0);
        standby = "; on standby within 10 s, and from its start".to_owned();
    } else {
        upgrade.changes(rounds(20, 120)).await;
    }
    let (earlier, newest) = upgrade.end().await;
    assert!(earlier > 0 && newest > 0);
    report(
        &format!(
            "a release with schema {version} beside the newest, {}",
            match aware {
                true => "during an upgrade",
                false => "which it does not notice, with kills",
            }
        ),
        &format!(
            "{earlier} of its commands, {newest} of the newest{standby}; 0 overlaps, 0 stale terms"
        ),
    );
}

#[tokio::test]
#[ignore = "needs programs of earlier releases in KINDLER_EARLIER_RELEASES"]
async fn replicas_of_two_releases_never_work_on_one_cluster() {
    let programs = std::env::var_os("KINDLER_EARLIER_RELEASES").expect("KINDLER_EARLIER_RELEASES");
    for program in std::env::split_paths(&programs) {
        for aware in [true, false] {
            upgraded(&program, aware).await;
        }
    }
}

//! Two resources on the core, over two tables of their own, in one process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use kindler::core::backoff::Backoff;
use kindler::core::controller::{ControllerSettings, Finished};
use kindler::core::database::{Database as Url, DatabaseError, Undecodable, column};
use kindler::core::lease::LeasePolicy;
use kindler::core::resource::Resource;
use kindler::core::rows::Leased;
use kindler::core::runtime::Runtime;
use kindler::core::standard::{RowSpec, Standard};
use kindler::core::steps::StepError;
use kindler::core::table::Table;
use kindler::core::work::Work;
use prometheus::Registry;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Row};
use tokio_util::sync::CancellationToken;

use super::rig::SOON;
use crate::kit::{Database, eventually};

pub struct Lamp(i32);

impl RowSpec for Lamp {
    const TABLE: Table = Table::prepared(kindler::prepared_names!("lamps", "name"), "t.watts");

    fn read(row: &Row) -> Result<Self, Undecodable> {
        column(row, "watts").map(Self)
    }
}

pub struct Door(i32);

impl RowSpec for Door {
    const TABLE: Table = Table::prepared(kindler::prepared_names!("doors", "label"), "t.width");

    fn read(row: &Row) -> Result<Self, Undecodable> {
        column(row, "width").map(Self)
    }
}

/// What is declared of a thing, as a number; a negative one cannot be made.
trait Measured: RowSpec {
    fn size(&self) -> i32;
}

impl Measured for Lamp {
    fn size(&self) -> i32 {
        self.0
    }
}

impl Measured for Door {
    fn size(&self) -> i32 {
        self.0
    }
}

/// The world of both resources: what was made, by table and key.
type World = Arc<Mutex<BTreeMap<(&'static str, String), i32>>>;

struct Things<T> {
    name: &'static str,
    world: World,
    spec: std::marker::PhantomData<fn() -> T>,
}

#[async_trait]
impl<T: Measured> Resource for Things<T> {
    type Object = Standard<T>;

    fn name(&self) -> &'static str {
        self.name
    }

    async fn reconcile(
        &self,
        row: Leased<Standard<T>>,
        work: &Work<Self>,
    ) -> Result<Finished, DatabaseError> {
        let Some(row) = work.begin(row, &[]).await? else {
            return Ok(Finished::AGAIN);
        };
        let (key, size) = ((self.name, row.object.key.clone()), row.object.spec.size());
        let ended = if row.object.deleted_at.is_some() {
            self.world.lock().unwrap().remove(&key);
            Ok("gone".to_owned())
        } else if size < 0 {
            Err(StepError::transient("it cannot be made"))
        } else {
            self.world.lock().unwrap().insert(key, size);
            Ok("made".to_owned())
        };
        work.conclude(&row, ended, None, &[], None, &Backoff::default())
            .await
    }
}

fn things<T>(name: &'static str, world: &World) -> Things<T> {
    Things {
        name,
        world: world.clone(),
        spec: std::marker::PhantomData,
    }
}

const LAMPS: &str =
    "CREATE TABLE IF NOT EXISTS lamps (name text PRIMARY KEY, watts integer NOT NULL, note text)";
const DOORS: &str =
    "CREATE TABLE IF NOT EXISTS doors (label text PRIMARY KEY, width integer NOT NULL)";

/// A database of its own, and a process part that reconciles both tables.
pub struct Both {
    world: World,
    pub sql: Client,
    shutdown: CancellationToken,
    running: JoinHandle<()>,
    pub database: Database,
}

pub async fn prepare(runtime: &Runtime) {
    let lamps = runtime.prepare(LAMPS, "lamps", "name", &["watts"]);
    let doors = runtime.prepare(DOORS, "doors", "label", &["width"]);
    lamps.await.unwrap();
    doors.await.unwrap();
}

impl Both {
    pub async fn new() -> Self {
        let database = Database::create().await;
        let url = Url::parse(&database.url()).unwrap();
        let mut runtime = Runtime::new(url, &Registry::new());
        prepare(&runtime).await;
        let world = World::default();
        // No full pass comes within a test: what happens, notifications caused.
        let settings = ControllerSettings {
            resync: Duration::from_secs(3600),
            ..ControllerSettings::default()
        };
        let lease = LeasePolicy {
            ttl: Duration::from_secs(3),
        };
        let lamps = things::<Lamp>("lamp", &world);
        runtime.add(lamps, settings, lease).await.unwrap();
        let doors = things::<Door>("door", &world);
        runtime.add(doors, settings, lease).await.unwrap();
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(runtime.run(shutdown.clone()));
        let both = Self {
            world,
            sql: database.connect().await,
            shutdown,
            running,
            database,
        };
        let listening = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%LISTEN%' AND pid <> pg_backend_pid()";
        eventually(SOON, "a listener", || async {
            both.number(listening).await == 1
        })
        .await;
        both
    }

    pub async fn run(&self, sql: &str) {
        if let Err(error) = self.sql.batch_execute(sql).await {
            panic!("{error:?} in: {sql}");
        }
    }

    pub async fn refused(&self, sql: &str) -> String {
        let error = self.sql.batch_execute(sql).await.expect_err(sql);
        error.as_db_error().unwrap().message().to_owned()
    }

    pub async fn number(&self, sql: &str) -> i64 {
        self.sql.query_one(sql, &[]).await.unwrap().get(0)
    }

    pub async fn until(&self, query: &str, wanted: i64) {
        eventually(SOON, query, || async { self.number(query).await == wanted }).await;
    }

    pub fn made(&self, of: &'static str, key: &str) -> Option<i32> {
        let world = self.world.lock().unwrap();
        world.get(&(of, key.to_owned())).copied()
    }

    pub async fn until_made(&self, of: &'static str, key: &str, size: Option<i32>) {
        eventually(SOON, key, || async { self.made(of, key) == size }).await;
    }

    pub async fn end(self) {
        self.shutdown.cancel();
        self.running.await.unwrap();
    }
}

//! Damage of Kindler's own triggers, constraints and functions is found and restored, and
//! missing privileges are named.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use kindler::core::database::Database as Url;
use kindler::store::{DatabaseGround, DatabaseUser, MigrateError, Store, migrate};
use tokio_postgres::Client;

use super::{migrated, run_migration};
use crate::kit::{Database, Sql};

const ROLES: &str = include_str!("../../../sql/roles.sql");

/// What is generated of a schema: triggers and constraints by their definitions.
const DEFINITIONS: &str = "
    SELECT 'trigger' AS kind, r.relname::text AS relation, t.tgname::text AS name,
           replace(pg_get_triggerdef(t.oid), 'public.', '') AS definition
    FROM pg_trigger t JOIN pg_class r ON r.oid = t.tgrelid WHERE NOT t.tgisinternal
    UNION ALL
    SELECT 'constraint', r.relname::text, c.conname::text, pg_get_constraintdef(c.oid)
    FROM pg_constraint c JOIN pg_class r ON r.oid = c.conrelid";

async fn ground_as(database: &Database, user: &str, needs: DatabaseUser) -> DatabaseGround {
    let url = Url::parse(&database.url_as(user)).unwrap();
    let store = Store::new(&url, 1, "test");
    store.ground(needs).await.unwrap().expect("it has tables")
}

async fn ground(database: &Database) -> DatabaseGround {
    let store = database.store(1);
    let read = store.ground(DatabaseUser::Daemon).await.unwrap();
    read.expect("it has tables")
}

/// What is wrong, for people.
async fn damaged(database: &Database) -> Vec<String> {
    let ground = ground(database).await;
    let named = ground
        .damaged()
        .map(|one| format!("{} is {}", one.object(), one.state));
    named.collect()
}

#[tokio::test]
async fn the_list_of_objects_is_that_of_a_new_database() {
    let (database, sql) = migrated().await;
    let found = ground(&database).await;
    if found.differing.is_empty() {
        return;
    }
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql/objects.tsv");
    let list = std::fs::read_to_string(list).unwrap();
    let key = |line: &str| line.splitn(4, '\t').take(3).collect::<Vec<_>>().join("\t");
    let mut lines: BTreeSet<String> = list.lines().map(str::to_owned).collect();
    let definitions = sql.query(DEFINITIONS, &[]).await.unwrap();
    for one in &found.differing {
        let own = format!("{}\t{}\t{}", one.kind, one.relation, one.name);
        lines.retain(|line| key(line) != own);
        let defined = definitions
            .iter()
            .find(|row| [0, 1, 2].map(|at| row.get::<_, String>(at)).join("\t") == own);
        let defined: String = defined.map(|row| row.get(3)).unwrap_or_default();
        if let Some(fingerprint) = &one.fingerprint {
            let defined = defined.replace(" NOT VALID", "");
            lines.insert(format!("{own}\t{fingerprint}\t{defined}"));
        }
    }
    let new = Path::new(env!("CARGO_TARGET_TMPDIR")).join("objects.tsv");
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(&new, text).unwrap();
    panic!(
        "sql/objects.tsv is not what the migrations make: cp {} sql/objects.tsv; {:#?}",
        new.display(),
        found.differing
    );
}

/// Statements that a query returns.
async fn run_all(sql: &Client, query: &str) {
    let statements: Vec<String> = sql
        .query(query, &[])
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert!(!statements.is_empty());
    sql.run(&statements.join(";")).await;
}

const EACH_TRIGGER: &str = "FROM pg_trigger t WHERE NOT t.tgisinternal";
const EACH_CONSTRAINT: &str = "FROM pg_constraint c
    WHERE c.contype IN ('c', 'f') AND c.connamespace = 'public'::regnamespace
    AND c.conname <> 'clusters_provider_check'";
/// Generated columns and defaults call two of the functions, so these cannot be dropped alone.
const EACH_FUNCTION: &str = "FROM pg_proc p
    WHERE p.pronamespace = 'public'::regnamespace AND p.prokind = 'f'
    AND p.proname NOT IN ('kindler_spec_hash', 'kindler_actor')";

#[tokio::test]
async fn migrate_restores_every_damaged_object() {
    let (database, sql) = migrated().await;
    sql.run(ROLES).await;
    sql.declare("dev").await;
    let row = "SELECT md5(c::text) FROM clusters c";
    let before = sql.text(row).await;
    let rights = "SELECT proacl::text FROM pg_proc WHERE proname = 'kindler_went_back'";
    let rights_before = sql.text(rights).await;
    for (damage, objects) in [
        ("format('ALTER TABLE %s DISABLE TRIGGER %I', t.tgrelid::regclass, t.tgname)", EACH_TRIGGER),
        ("format('DROP TRIGGER %I ON %s', t.tgname, t.tgrelid::regclass)", EACH_TRIGGER),
        (
            "format('DROP TRIGGER %1$I ON %2$s; CREATE TRIGGER %1$I BEFORE UPDATE ON %2$s
                     FOR EACH ROW WHEN (false) EXECUTE FUNCTION suppress_redundant_updates_trigger()',
                    t.tgname, t.tgrelid::regclass)",
            EACH_TRIGGER,
        ),
        (
            "format('ALTER TABLE %s DROP CONSTRAINT %I', c.conrelid::regclass, c.conname)",
            EACH_CONSTRAINT,
        ),
        (
            "format('ALTER TABLE %1$s DROP CONSTRAINT %2$I; ALTER TABLE %1$s ADD CONSTRAINT %2$I
                     CHECK (%1$s IS NOT NULL OR true)', c.conrelid::regclass, c.conname)",
            EACH_CONSTRAINT,
        ),
        (
            "format('ALTER TABLE %s DISABLE TRIGGER ALL', c.conrelid::regclass)",
            EACH_CONSTRAINT,
        ),
        (
            "replace(pg_get_functiondef(p.oid), p.prosrc, p.prosrc || ' -- ')",
            EACH_FUNCTION,
        ),
        (
            "format('ALTER FUNCTION %s SECURITY %s', p.oid::regprocedure,
                    CASE WHEN p.prosecdef THEN 'INVOKER' ELSE 'DEFINER' END)",
            EACH_FUNCTION,
        ),
        (
            "format('DROP FUNCTION IF EXISTS %s CASCADE', p.oid::regprocedure)",
            EACH_FUNCTION,
        ),
    ] {
        run_all(&sql, &format!("SELECT {damage} {objects}")).await;
        let wrong = damaged(&database).await;
        // Of the constraints, only foreign keys have triggers.
        let all = match damage.contains("TRIGGER ALL") {
            true => 1,
            false => sql.number(&format!("SELECT count(*) {objects}")).await,
        };
        assert!(wrong.len() as i64 >= all, "{damage}: {wrong:#?}");
        let migrated = run_migration(&database).await;
        assert!(migrated.applied.is_empty(), "{damage}");
        assert_eq!(migrated.broken, [""; 0], "{damage}");
        assert!(migrated.restored.len() >= wrong.len(), "{damage}");
        assert_eq!(damaged(&database).await, [""; 0], "{damage}");
        assert_eq!(run_migration(&database).await.restored, [""; 0], "{damage}");
        assert_eq!(sql.text(row).await, before, "{damage}");
        assert_eq!(sql.text(rights).await, rights_before, "{damage}");
    }
    sql.run("DELETE FROM clusters").await;
    assert_eq!(
        sql.text("SELECT desired_state FROM clusters").await,
        "absent"
    );
    let strangers = "SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
                     AND proowner <> 'kindler_owner'::regrole";
    assert_eq!(sql.number(strangers).await, 0, "functions of another owner");
}

#[tokio::test]
async fn a_constraint_that_rows_break_stays_absent() {
    let (database, sql) = migrated().await;
    sql.declare("dev").await;
    sql.run(
        "ALTER TABLE clusters DROP CONSTRAINT clusters_http_port_1_to_65535;
         ALTER TABLE clusters DISABLE TRIGGER USER; UPDATE clusters SET http_port = 0",
    )
    .await;
    let migrated = run_migration(&database).await;
    let constraint = "constraint clusters_http_port_1_to_65535 on clusters";
    assert_eq!(migrated.broken, [constraint]);
    assert!(migrated.restored.len() > 10, "{:?}", migrated.restored);
    assert_eq!(
        damaged(&database).await,
        [format!("{constraint} is missing")]
    );
    sql.run("UPDATE clusters SET http_port = 18099").await;
    assert_eq!(
        run_migration(&database).await.restored,
        [format!("{constraint} (was missing)")]
    );
}

#[tokio::test]
async fn without_damage_migrate_waits_for_no_lock() {
    let (database, sql) = migrated().await;
    sql.run("BEGIN; LOCK TABLE clusters, cluster_leases, kindler_replicas")
        .await;
    let began = Instant::now();
    assert_eq!(run_migration(&database).await.restored, [""; 0]);
    // The daemon's check waits for none either.
    assert_eq!(damaged(&database).await, [""; 0]);
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn the_privileges_are_those_of_the_roles() {
    let (database, sql) = migrated().await;
    sql.run(ROLES).await;
    let user = format!("nobody_{}", database.name());
    sql.run(&format!("CREATE ROLE \"{user}\" LOGIN")).await;
    for (needs, role) in [
        (DatabaseUser::Daemon, "kindler_daemon"),
        (DatabaseUser::Api, "kindler_api"),
    ] {
        let lacking = ground_as(&database, &user, needs).await.lacking;
        let needed: BTreeSet<String> = lacking.iter().map(ToString::to_string).collect();
        let granted = format!(
            "SELECT privilege_type || ' ON ' || CASE relkind WHEN 'S' THEN 'SEQUENCE ' ELSE '' END || relname
             FROM pg_class, aclexplode(relacl) WHERE grantee = '{role}'::regrole
             AND relnamespace = 'public'::regnamespace
             UNION ALL
             SELECT format('%s (%s) ON %s', privilege_type, attname, attrelid::regclass)
             FROM pg_attribute, aclexplode(attacl) WHERE grantee = '{role}'::regrole
             AND attrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace)
             UNION ALL
             SELECT format('%s ON FUNCTION %s', privilege_type, p.oid::regprocedure)
             FROM pg_proc p, aclexplode(proacl) WHERE grantee = '{role}'::regrole
             AND pronamespace = 'public'::regnamespace"
        );
        let granted: BTreeSet<String> = sql
            .query(&granted, &[])
            .await
            .unwrap()
            .iter()
            .map(|row| row.get(0))
            .collect();
        assert_eq!(needed, granted, "{role}");
        let login = format!("{role}_{}", database.name());
        sql.run(&format!("CREATE ROLE \"{login}\" LOGIN IN ROLE {role}"))
            .await;
        assert_eq!(ground_as(&database, &login, needs).await.lacking.len(), 0);
    }
}

#[tokio::test]
async fn a_renamed_schema_is_found_and_restored() {
    let (database, sql) = migrated().await;
    sql.declare("dev").await;
    sql.run("ALTER SCHEMA public RENAME TO \"Moved\"; CREATE SCHEMA public")
        .await;
    let store = database.store(1);
    assert_eq!(store.ground(DatabaseUser::Daemon).await.unwrap(), None);
    let schemas = store.schemas_with_tables().await.unwrap();
    assert_eq!(schemas.len(), 1);
    assert!(schemas[0].renamed && schemas[0].name == "Moved");
    let url = Url::parse(&database.url()).unwrap();
    let refused = migrate(&url).await.unwrap_err();
    assert!(
        matches!(&refused, MigrateError::Renamed { schema } if schema == "Moved"),
        "{refused}"
    );

    let path = format!(
        "ALTER DATABASE \"{}\" SET search_path = \"Moved\"",
        database.name()
    );
    sql.run(&path).await;
    sql.run("DROP SCHEMA public").await;
    let channels = database.store(1).channels().await.unwrap_err();
    assert!(channels.to_string().contains("was renamed"), "{channels}");
    let wrong = ground(&database).await;
    let paths: BTreeSet<_> = wrong.damaged().filter_map(|one| one.path.clone()).collect();
    assert_eq!(paths.len(), 1, "{wrong:#?}");
    assert!(!run_migration(&database).await.restored.is_empty());
    assert_eq!(damaged(&database).await, [""; 0]);
    let channels = database.store(1).channels().await.unwrap();
    assert_eq!(channels.wake, "kindler_wake_Moved");
    database.connect().await.run("DELETE FROM clusters").await;
}

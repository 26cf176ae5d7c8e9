//! The triggers, constraints and functions that the migrations of this release make, and the
//! statements that restore each. The list is `sql/objects.tsv`; `tests/suite/schema/ground.rs`
//! compares it with a new database, and prints it if it differs.

use std::sync::LazyLock;

use serde::Deserialize;
use strum::{Display, EnumString};

/// The list: kind, relation, name, fingerprint and, except of functions, definition.
const LIST: &str = include_str!("../../sql/objects.tsv");

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Display, EnumString, Deserialize)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum ObjectKind {
    /// A trigger.
    Trigger,
    /// A check or a foreign key.
    Constraint,
    /// A function.
    Function,
}

/// How an object differs from what this release makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Display, Deserialize)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum DamageState {
    /// It does not exist.
    Missing,
    /// It exists and has no effect.
    Disabled,
    /// It does something else.
    Changed,
    /// It is not one of Kindler, or of an earlier release.
    Additional,
}

/// An object that differs from what this release makes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Damage {
    /// Its kind.
    pub kind: ObjectKind,
    /// Its table; empty for a function.
    pub relation: String,
    /// Its name; of a function with the types of its arguments.
    pub name: String,
    /// How it differs.
    pub state: DamageState,
    /// The search path of a function, if it names another schema than its own.
    pub path: Option<String>,
    /// What it is now; none if it does not exist.
    pub fingerprint: Option<String>,
}

impl Damage {
    /// `trigger a on clusters`
    pub fn object(&self) -> String {
        let Self {
            kind,
            relation,
            name,
            ..
        } = self;
        match self.kind {
            ObjectKind::Function => format!("function {name}"),
            _ => format!("{kind} {name} on {relation}"),
        }
    }
}

/// The list in columns, as the statement needs it.
#[derive(Debug, Default)]
pub(super) struct Objects {
    pub(super) kinds: Vec<&'static str>,
    pub(super) relations: Vec<&'static str>,
    pub(super) names: Vec<&'static str>,
    pub(super) fingerprints: Vec<&'static str>,
    definitions: Vec<&'static str>,
}

/// What this release makes.
pub(super) fn objects() -> &'static Objects {
    static OBJECTS: LazyLock<Objects> = LazyLock::new(|| Objects::read(LIST));
    &OBJECTS
}

impl Objects {
    fn read(list: &'static str) -> Self {
        let mut objects = Self::default();
        for line in list.lines() {
            let mut parts = line.split('\t');
            let mut next = || parts.next().unwrap_or_default();
            objects.kinds.push(next());
            objects.relations.push(next());
            objects.names.push(next());
            objects.fingerprints.push(next());
            objects.definitions.push(next());
        }
        objects
    }

    /// The definition of a trigger or constraint.
    fn definition(&self, damage: &Damage) -> &'static str {
        let of = |at: &usize| {
            self.names[*at] == damage.name
                && self.relations[*at] == damage.relation
                && self.kinds[*at] == damage.kind.to_string()
        };
        let at = (0..self.names.len()).find(of);
        at.map_or("", |at| self.definitions[at])
    }
}

/// The statements that restore an object; `migrations` are all of this release, in order.
pub(super) fn restoring(damage: &Damage, migrations: &str) -> String {
    let Damage { relation, name, .. } = damage;
    let definition = objects().definition(damage);
    match (damage.kind, damage.state) {
        (ObjectKind::Trigger, DamageState::Disabled) => {
            format!("ALTER TABLE {relation} ENABLE TRIGGER {name}")
        }
        (ObjectKind::Trigger, _) => {
            format!("DROP TRIGGER IF EXISTS {name} ON {relation}; {definition}")
        }
        (ObjectKind::Constraint, _) => format!(
            "ALTER TABLE {relation} DROP CONSTRAINT IF EXISTS {name};
             ALTER TABLE {relation} ADD CONSTRAINT {name} {definition}"
        ),
        (ObjectKind::Function, state) => {
            let mut sql = function(name, migrations);
            if state == DamageState::Missing {
                sql += &owner_and_privileges(name, migrations);
            }
            sql
        }
    }
}

/// The last definition of a function in the migrations.
fn function(signature: &str, migrations: &str) -> String {
    let name = signature.split('(').next().unwrap_or(signature);
    let start = format!("CREATE OR REPLACE FUNCTION {name}(");
    let text = migrations.rfind(&start).map_or("", |at| &migrations[at..]);
    // The body is between two marks, and the statement ends after it.
    let parts: Vec<&str> = text.splitn(3, "$$").collect();
    match parts[..] {
        [head, body, _] => format!("{head}$${body}$$;"),
        _ => String::new(),
    }
}

/// What belongs to a function besides its text. A new one belongs to the role that migrates, and
/// every role may run it: it gets the owner of the tables, as the others have.
fn owner_and_privileges(signature: &str, migrations: &str) -> String {
    let mut sql = format!(
        "DO $$ BEGIN EXECUTE format('ALTER FUNCTION {signature} OWNER TO %s',
            (SELECT relowner::regrole FROM pg_class WHERE oid = 'clusters'::regclass)); END $$;"
    );
    let on = format!("EXECUTE ON FUNCTION {signature} ");
    for line in migrations.lines().filter(|line| line.contains(&on)) {
        let line = line.trim();
        sql += &match line.rsplit_once(" TO ") {
            None => line.to_owned(),
            // As in the migrations: only where the roles are used.
            Some(_) => format!(
                "DO $$ BEGIN
                    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'kindler_daemon')
                       AND has_table_privilege('kindler_daemon', 'cluster_leases', 'INSERT') THEN
                        {line}
                    END IF;
                 END $$;"
            ),
        };
    }
    sql
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_definition_of_a_function_counts() {
        let migrations = "CREATE OR REPLACE FUNCTION f(a int) AS $$\nold\n$$;\n\
                          CREATE OR REPLACE FUNCTION f_other() AS $$x$$;\n\
                          CREATE OR REPLACE FUNCTION f(a int) AS $$\nnew; END $$;\n-- more";
        let found = function("f(integer)", migrations);
        assert_eq!(
            found,
            "CREATE OR REPLACE FUNCTION f(a int) AS $$\nnew; END $$;"
        );
    }

    #[test]
    fn the_list_is_read() {
        let objects = objects();
        let guard = Damage {
            kind: ObjectKind::Trigger,
            relation: "clusters".into(),
            name: "clusters_3_guard_delete".into(),
            state: DamageState::Missing,
            path: None,
            fingerprint: None,
        };
        assert!(objects.definition(&guard).starts_with("CREATE TRIGGER "));
        assert_eq!(objects.kinds.len(), objects.definitions.len());
    }
}

//! The description of a reconciled table, and its SQL statements.
//!
//! The texts are in `sql/core`, one statement each; [`Statements`] inserts the names of
//! one table. This module runs nothing.

use super::database::{named_parameters, numbered};
use super::steps;

/// One reconciled table, by its names in SQL. The names are inserted into statements
/// without quoting, so they must be constants of the program.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// The table.
    pub name: &'static str,
    /// The alias that `columns` and the conditions use.
    pub alias: &'static str,
    /// The column that names a row: text, unique, immutable.
    pub key: &'static str,
    /// The table of leases, and its key column.
    pub leases: (&'static str, &'static str),
    /// The sequence of terms.
    pub terms: &'static str,
    /// The table of steps.
    pub steps: &'static str,
    /// The columns that [`super::object::Object::read`] reads.
    pub columns: &'static str,
    /// Whether the columns of [`super::standard::Standard`] are read as well.
    pub standard: bool,
    /// The columns of the recorded state and of the message for people.
    pub state: (&'static str, &'static str),
    /// The fields of a serialized status, each with its type:
    /// `reason text, attempts integer`.
    pub status_columns: &'static str,
    /// The assignments of a status write, from `s.COLUMN`.
    pub set_status: &'static str,
    /// The condition for rows that an owner selects, by `{selector}`, a jsonb value or
    /// null.
    pub selects: &'static str,
    /// The condition for rows that have the placement `{place}` or none.
    pub placed: &'static str,
    /// The condition for rows that may be acted on, and not only observed.
    pub actionable: &'static str,
    /// The condition for rows that are declared deleted.
    pub removable: &'static str,
    /// The class of a row, an integer from 0: a full pass finds due rows of each class in turn,
    /// so that a backlog of one does not delay the others. With the number of the last one.
    pub class: (&'static str, &'static str),
}

impl Table {
    /// A table that was prepared by `kindler_prepare_table` of `sql/core/prepare.sql`.
    /// `columns` are its desired columns, with the alias `t`.
    #[must_use]
    pub const fn prepared(names: PreparedNames, columns: &'static str) -> Self {
        Self {
            name: names.table,
            alias: "t",
            key: names.key,
            leases: (names.leases, "key"),
            terms: names.terms,
            steps: names.steps,
            columns,
            standard: true,
            state: ("state", "message"),
            status_columns: "state text, reason text, message text, failed_attempts integer, \
                next_attempt_seconds float8, next_check_seconds float8, reached boolean",
            set_status: "state = s.state, reason = s.reason, message = s.message, \
                failed_attempts = s.failed_attempts, \
                next_attempt_at = clock_timestamp() + make_interval(secs => s.next_attempt_seconds), \
                next_check_at = clock_timestamp() + make_interval(secs => s.next_check_seconds), \
                observed_generation = CASE WHEN s.reached THEN t.generation ELSE t.observed_generation END, \
                last_reconciled_at = clock_timestamp()",
            // Always true, also for a null: a statement must mention each of its
            // parameters, or their types are unknown.
            selects: "{selector} IS NULL OR {selector} IS NOT NULL",
            placed: "{place} IS NOT NULL",
            actionable: "true",
            removable: "t.deleted_at IS NOT NULL",
            class: (
                "CASE WHEN t.deleted_at IS NOT NULL THEN 0 \
                 WHEN t.observed_generation = t.generation THEN 1 ELSE 2 END",
                "2",
            ),
        }
    }
}

/// The names of a table that `kindler_prepare_table` prepared.
#[derive(Clone, Copy, Debug)]
pub struct PreparedNames {
    /// The table.
    pub table: &'static str,
    /// Its key column.
    pub key: &'static str,
    /// `TABLE_leases`.
    pub leases: &'static str,
    /// `TABLE_terms`.
    pub terms: &'static str,
    /// `TABLE_steps`.
    pub steps: &'static str,
}

/// The names of a prepared table: `prepared_names!("folders", "name")`.
#[macro_export]
macro_rules! prepared_names {
    ($table:literal, $key:literal) => {
        $crate::core::table::PreparedNames {
            table: $table,
            key: $key,
            leases: concat!($table, "_leases"),
            terms: concat!($table, "_terms"),
            steps: concat!($table, "_steps"),
        }
    };
}

/// Columns that every read of a row returns.
const ROW: &str = "{t}.{key} AS row_key, {t}.uid AS row_uid, {t}.generation AS row_generation, \
    {t}.{state} AS row_state, clock_timestamp() AS row_read_at";

/// Always true: makes the commit of the transaction durable, also where the server, the
/// role or the database makes commits asynchronous or local. A server that acknowledged a
/// claim must not forget it, or two owners would act.
const DURABLE: &str = "set_config('synchronous_commit', \
    CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, \
    true) IS NOT NULL";

/// The columns of [`super::standard::Standard`].
const STANDARD: &str = "{t}.deleted_at, {t}.failed_attempts, {t}.observed_generation";

macro_rules! sql {
    ($name:literal) => {
        include_str!(concat!("../../sql/core/", $name, ".sql"))
    };
}

named_parameters! {
    /// The parameters of [`Statements::renew`].
    Renew { key, uid, owner, term, ttl, place }
}

named_parameters! {
    /// The parameters of [`Statements::remove`].
    Remove { key, uid, owner, term, generation, place }
}

/// The statements of one table, with its names.
#[derive(Debug)]
pub struct Statements {
    /// Claims one row.
    pub claim: String,
    /// Claims several.
    pub claim_several: String,
    /// Renews a lease.
    pub renew: String,
    /// Releases a lease.
    pub release: String,
    /// Releases all leases of an owner.
    pub release_all: String,
    /// Finds due rows.
    pub due: String,
    /// Finds rows whose lease has expired.
    pub expired: String,
    /// Writes one status.
    pub write_status: String,
    /// Writes several; skips locked rows.
    pub write_statuses: String,
    /// Writes steps during work.
    pub advance_steps: String,
    /// Finds out whether a row is locked.
    pub is_locked: String,
    /// Removes a row.
    pub remove: String,
}

impl Statements {
    /// The statements of a table.
    pub fn of(table: &Table) -> Self {
        let one = [
            ("{statuses}", "jsonb_to_record($1::jsonb)"),
            ("{skip_locked}", ""),
            ("{lock_rows}", ""),
            ("{fence}", "fence"),
        ];
        let several = [
            ("{statuses}", "jsonb_to_recordset($1::jsonb)"),
            ("{skip_locked}", " SKIP LOCKED"),
            ("{lock_rows}", sql!("lock_rows")),
            ("{fence}", "locked"),
        ];
        let place = |n: &'static str| ("{place}", n);
        Self {
            claim: fill(
                table,
                &with(sql!("claim"), &[("{keys}", "= $1::text")]),
                &[("{selector}", "$4::jsonb")],
            ),
            claim_several: fill(
                table,
                &with(sql!("claim"), &[("{keys}", "= ANY($1::text[])")]),
                &[("{selector}", "$4::jsonb")],
            ),
            renew: numbered(
                &fill(table, sql!("renew"), &[place(":place::text")]),
                Renew::NAMES,
            ),
            release: fill(table, sql!("release"), &[]),
            release_all: fill(table, sql!("release_all"), &[]),
            due: fill(table, sql!("due"), &[("{selector}", "$3::jsonb")]),
            expired: fill(table, sql!("expired"), &[("{selector}", "$2::jsonb")]),
            write_status: fill(
                table,
                &with(sql!("write_status"), &one),
                &[place("$2::text")],
            ),
            write_statuses: fill(
                table,
                &with(sql!("write_status"), &several),
                &[place("$2::text")],
            ),
            advance_steps: fill(table, sql!("advance_steps"), &[]),
            is_locked: fill(table, sql!("is_locked"), &[]),
            remove: numbered(
                &fill(table, sql!("remove"), &[place(":place::text")]),
                Remove::NAMES,
            ),
        }
    }
}

fn with(text: &str, parts: &[(&str, &str)]) -> String {
    parts
        .iter()
        .fold(text.to_owned(), |text, (placeholder, part)| {
            text.replace(placeholder, part)
        })
}

/// Inserts the parts and names of a table. A part may contain the placeholders that are
/// filled after it.
fn fill(table: &Table, text: &str, parameters: &[(&str, &str)]) -> String {
    let columns = if table.standard {
        format!("{STANDARD}, {}", table.columns)
    } else {
        table.columns.to_owned()
    };
    let text = with(
        text,
        &[
            ("{write_steps}", sql!("write_steps")),
            ("{on_step}", sql!("on_step")),
            ("{steps_of_row}", steps::OF_ROW),
            ("{durable}", DURABLE),
            ("{row}", ROW),
            ("{columns}", &columns),
            ("{status_columns}", table.status_columns),
            ("{set_status}", table.set_status),
            ("{selects}", table.selects),
            ("{placed}", table.placed),
            ("{actionable}", table.actionable),
            ("{removable}", table.removable),
            ("{class}", table.class.0),
            ("{last_class}", table.class.1),
        ],
    );
    let text = with(&text, parameters);
    with(
        &text,
        &[
            ("{table}", table.name),
            ("{t}", table.alias),
            ("{key}", table.key),
            ("{leases}", table.leases.0),
            ("{lease_key}", table.leases.1),
            ("{terms}", table.terms),
            ("{steps}", table.steps),
            ("{state}", table.state.0),
            ("{message}", table.state.1),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::database::unmatched_names;

    #[test]
    fn names_in_the_texts_are_the_fields() {
        let filled = |text: &str| text.replace("{place}", ":place");
        let renew = unmatched_names(&filled(sql!("renew")), Renew::NAMES);
        let remove = unmatched_names(&filled(sql!("remove")), Remove::NAMES);
        assert!(renew.is_empty(), "sql/core/renew.sql: {renew:?}");
        assert!(remove.is_empty(), "sql/core/remove.sql: {remove:?}");
    }

    #[test]
    fn every_placeholder_is_filled() {
        let table = Table::prepared(prepared_names!("folders", "name"), "t.mode");
        let all = Statements::of(&table);
        for text in [
            all.claim,
            all.claim_several,
            all.renew,
            all.release,
            all.release_all,
            all.due,
            all.expired,
            all.write_status,
            all.write_statuses,
            all.advance_steps,
            all.is_locked,
            all.remove,
        ] {
            let code = text.lines().filter(|line| !line.starts_with("--"));
            for line in code {
                assert!(!line.contains('{') && !line.contains('}'), "{line}");
            }
        }
    }
}

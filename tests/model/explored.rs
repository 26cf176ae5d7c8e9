//! The protocol as it is: explored, nothing found.
use crate::protocol::Protocol;
use crate::rules::Rules;
use stateright::{Checker, Model};
use std::io::Write;
use std::time::Instant;

fn run(rules: Rules) {
    let began = Instant::now();
    let checker = Protocol::new(rules).checker().threads(2).spawn_bfs().join();
    writeln!(
        std::io::stderr(),
        "{rules:?}: {} states, {} steps, depth {}, {:?}",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        began.elapsed()
    )
    .unwrap();
    for (name, path) in checker.discoveries() {
        if checker.discovery_classification(name).to_string() == "counterexample" {
            writeln!(std::io::stderr(), "{name}").unwrap();
            let mut last = None;
            for (state, event) in path.into_vec() {
                writeln!(
                    std::io::stderr(),
                    "   {event:?} <- {} {:?} {:?}",
                    state.row.map_or("none".into(), |r| format!(
                        "{}/{} {:?} app {:?} g{} r{} fa{}",
                        r.desired,
                        r.actual,
                        r.spec,
                        r.applied,
                        r.generation,
                        r.reached,
                        r.health_failures
                    )),
                    state.world,
                    state.owners.map(|o| o.term)
                )
                .unwrap();
                last = Some(state);
            }
            writeln!(std::io::stderr(), "{last:?}").unwrap();
            let model = checker.model();
            let mut s = last.unwrap();
            for _ in 0..5 {
                let Some(e) = crate::properties::calm(model, &s) else {
                    break;
                };
                writeln!(std::io::stderr(), "  calm {e:?}").unwrap();
                match model.next_state(&s, e) {
                    Some(n) => s = n,
                    None => break,
                }
                writeln!(std::io::stderr(), "  {s:?}").unwrap();
            }
        }
    }
}

#[test]
fn small() {
    let env = |n: &str, d: u8| {
        std::env::var(n)
            .ok()
            .and_then(|v| v.parse().ok())
            .unwrap_or(d)
    };
    run(Rules {
        defect: None,
        changes: env("CH", 1),
        faults: env("FA", 1),
        from_every_row: env("EV", 0) > 0,
        fold: env("FO", 1) > 0,
    });
}

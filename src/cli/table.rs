//! Tables that fit narrow windows: the least important columns are dropped first
//! and long texts wrap. A program gets whole lines.

use comfy_table::{Attribute, Cell, Color, ColumnConstraint, ContentArrangement, Table, presets};

use super::screen::Screen;

/// Minimum width of a text column.
const MIN_TEXT: usize = 18;
/// Spaces between two columns.
const GAP: u16 = 2;
/// Maximum height of a row, in lines.
const MAX_LINES: usize = 4;

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub title: &'static str,
    /// Priority: the lowest is dropped first in a narrow window, `u8::MAX` never.
    pub keep: u8,
    /// Whether it has sentences, which may wrap.
    pub text: bool,
}

/// One field of a row.
#[derive(Clone, Debug)]
pub(super) struct Field {
    text: String,
    colour: Option<Color>,
}

impl Field {
    pub(super) fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        Self {
            text: if text.is_empty() {
                "-".to_owned()
            } else {
                text
            },
            colour: None,
        }
    }

    pub(super) fn coloured(self, colour: Option<Color>) -> Self {
        Self { colour, ..self }
    }
}

/// The table as lines, fitted to the screen.
pub(super) fn render(columns: &[Column], rows: &[Vec<Field>], screen: &Screen) -> String {
    let (shown, fits) = match screen.width {
        Some(width) => fitting(columns, rows, usize::from(width)),
        None => ((0..columns.len()).collect(), true),
    };
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if screen.colour {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    match screen.width {
        Some(width) => {
            table
                .set_width(width)
                .set_content_arrangement(ContentArrangement::Dynamic);
        }
        None => {
            table.set_content_arrangement(ContentArrangement::Disabled);
        }
    }
    table.set_header(
        shown
            .iter()
            .map(|n| Cell::new(columns[*n].title).add_attribute(Attribute::Bold)),
    );
    for row in rows {
        let cells = shown.iter().map(|n| {
            let field = &row[*n];
            let cell = Cell::new(&field.text);
            field.colour.map_or(cell.clone(), |colour| cell.fg(colour))
        });
        let mut row = comfy_table::Row::from(cells.collect::<Vec<_>>());
        row.max_height(MAX_LINES);
        table.add_row(row);
    }
    let last = shown.len().saturating_sub(1);
    for (n, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, if n == last { 0 } else { GAP }));
        if fits && !columns[shown[n]].text {
            // Only texts wrap.
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    table.trim_fmt() + "\n"
}

/// The indexes of the columns to show, and whether they fit.
fn fitting(columns: &[Column], rows: &[Vec<Field>], width: usize) -> (Vec<usize>, bool) {
    let needed = |n: usize| {
        let natural = rows
            .iter()
            .map(|row| row[n].text.chars().count())
            .chain([columns[n].title.len()])
            .max()
            .unwrap_or(0);
        let least = if columns[n].text {
            natural.min(MIN_TEXT)
        } else {
            natural
        };
        least + usize::from(GAP)
    };
    let mut shown: Vec<usize> = (0..columns.len()).collect();
    while shown.iter().map(|n| needed(*n)).sum::<usize>() > width + usize::from(GAP) {
        let least = shown.iter().copied().min_by_key(|n| columns[*n].keep);
        match least.filter(|n| columns[*n].keep < u8::MAX) {
            Some(least) => shown.retain(|n| *n != least),
            None => return (shown, false),
        }
    }
    (shown, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 3] = [
        Column {
            title: "NAME",
            keep: u8::MAX,
            text: false,
        },
        Column {
            title: "AGE",
            keep: 1,
            text: false,
        },
        Column {
            title: "MESSAGE",
            keep: 2,
            text: true,
        },
    ];

    fn rendered(width: Option<u16>, colour: bool) -> String {
        let rows = [vec![
            Field::new("dev").coloured(Some(Color::Green)),
            Field::new("3m"),
            Field::new("create_env.sh exited with code 1 after a while, says its log"),
        ]];
        let screen = Screen {
            colour,
            stderr_colour: false,
            stderr_tty: false,
            stderr_live: false,
            width,
            stderr_width: 80,
        };
        render(&COLUMNS, &rows, &screen)
    }

    #[test]
    fn a_table_fits_every_width() {
        for width in 1..120 {
            let table = rendered(Some(width), false);
            if width >= 10 {
                let longest = table.lines().map(|l| l.chars().count()).max().unwrap();
                assert!(longest <= usize::from(width), "{width}:\n{table}");
                assert!(table.contains("dev"));
            }
        }
    }

    #[test]
    fn narrow_windows_drop_the_least_important_columns() {
        assert!(rendered(Some(60), false).contains("AGE"));
        let narrow = rendered(Some(25), false);
        assert!(
            !narrow.contains(" AGE") && narrow.contains("MESSAGE"),
            "{narrow}"
        );
    }

    #[test]
    fn a_program_gets_whole_lines_and_no_colour() {
        let table = rendered(None, false);
        assert_eq!(table.lines().count(), 2, "{table}");
        assert!(!table.contains('\x1b'));
        assert!(rendered(Some(80), true).contains('\x1b'));
    }
}

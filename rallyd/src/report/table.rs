//! Tables as Markdown and as comma-separated values.

use clap::ValueEnum;

/// Where numbers stand in their column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum NumberAlignment {
    /// At the left.
    Left,
    /// In the middle.
    Center,
    /// At the right.
    Right,
    /// With their decimal points below each other.
    #[default]
    Decimal,
}

/// A cell of a table.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Any text, at the right.
    Text(String),
    /// A number, none if there is no value.
    Number(Option<f64>),
    /// A difference with this many decimals, with a sign.
    Difference(Option<f64>, usize),
}

impl Cell {
    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    fn is_number(&self) -> bool {
        matches!(self, Self::Number(_) | Self::Difference(..))
    }

    /// For people: numbers have six significant digits.
    fn short(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.map(six_digits).unwrap_or_default(),
            Self::Difference(number, decimals) => number.map(|it| signed(it, *decimals)).unwrap_or_default(),
        }
    }

    /// For programs: numbers have all their digits.
    fn full(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.map(|it| it.to_string()).unwrap_or_default(),
            Self::Difference(number, decimals) => number.map(|it| signed(it, *decimals)).unwrap_or_default(),
        }
    }
}

/// A number with up to six significant digits, but with all of those before the point.
fn six_digits(number: f64) -> String {
    if number == 0.0 || !number.is_finite() {
        return number.to_string();
    }
    let magnitude = number.abs().log10().floor() as i32;
    let trimmed = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if magnitude < -4 {
        // As Python writes it.
        let text = format!("{number:.5e}");
        let (mantissa, exponent) = text.split_once("e-").unwrap_or((&text, ""));
        return format!("{}e-{exponent:0>2}", trimmed(mantissa));
    }
    let decimals = usize::try_from(5 - magnitude).unwrap_or(0);
    trimmed(&format!("{number:.decimals$}"))
}

fn signed(number: f64, decimals: usize) -> String {
    let text = format!("{number:.decimals$}");
    let is_zero = text.trim_start_matches('-').chars().all(|digit| matches!(digit, '0' | '.'));
    match number > 0.0 && !is_zero {
        true => format!("+{text}"),
        false if is_zero => text.trim_start_matches('-').to_owned(),
        false => text,
    }
}

/// A pipe table of Markdown.
#[must_use]
pub fn markdown(header: &[&str], rows: &[Vec<Cell>], alignment: NumberAlignment) -> String {
    let columns: Vec<Column<'_>> = (0..header.len())
        .map(|index| {
            let is_number = !rows.is_empty() && rows.iter().all(|row| row.get(index).is_some_and(Cell::is_number));
            // A pipe in a name would begin a new column.
            let cells = rows.iter().map(|row| row.get(index).map(Cell::short).unwrap_or_default().replace('|', "\\|"));
            Column::new(header[index], cells.collect(), is_number.then_some(alignment))
        })
        .collect();
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut text = line(columns.iter().map(|column| column.aligned(column.header)).collect());
    text += &format!("|{}|\n", columns.iter().map(Column::rule).collect::<Vec<_>>().join("|"));
    for row in 0..rows.len() {
        text += &line(columns.iter().map(|column| column.aligned(&column.cells[row])).collect());
    }
    text
}

struct Column<'a> {
    header: &'a str,
    cells: Vec<String>,
    width: usize,
    /// None for text.
    alignment: Option<NumberAlignment>,
}

impl<'a> Column<'a> {
    fn new(header: &'a str, mut cells: Vec<String>, alignment: Option<NumberAlignment>) -> Self {
        if alignment == Some(NumberAlignment::Decimal) {
            let after_point = |cell: &String| cell.find('.').map_or(0, |point| cell.len() - point);
            let most = cells.iter().map(after_point).max().unwrap_or_default();
            for cell in &mut cells {
                let missing = most - after_point(cell);
                cell.extend(std::iter::repeat_n(' ', missing));
            }
        }
        let width = cells.iter().map(|cell| cell.chars().count()).chain([header.len()]).max().unwrap_or_default();
        Self { header, cells, width, alignment }
    }

    fn aligned(&self, cell: &str) -> String {
        let width = self.width;
        match self.alignment {
            Some(NumberAlignment::Left) => format!("{cell:<width$}"),
            Some(NumberAlignment::Center) => format!("{cell:^width$}"),
            Some(NumberAlignment::Right | NumberAlignment::Decimal) | None => format!("{cell:>width$}"),
        }
    }

    fn rule(&self) -> String {
        let dashes = |less: usize| "-".repeat(self.width + 2 - less);
        match self.alignment {
            Some(NumberAlignment::Left) => format!(":{}", dashes(1)),
            Some(NumberAlignment::Center) => format!(":{}:", dashes(2)),
            Some(NumberAlignment::Right | NumberAlignment::Decimal) | None => format!("{}:", dashes(1)),
        }
    }
}

/// Comma-separated values, with quotes where RFC 4180 wants them.
#[must_use]
pub fn csv(header: &[&str], rows: &[Vec<Cell>]) -> String {
    let header = header.iter().map(|cell| quoted(cell)).collect::<Vec<_>>().join(",");
    let rows = rows.iter().map(|row| row.iter().map(|cell| quoted(&cell.full())).collect::<Vec<_>>().join(","));
    std::iter::once(header).chain(rows).map(|line| line + "\n").collect()
}

fn quoted(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(alignment: NumberAlignment) -> String {
        let row = |name: &str, value| vec![Cell::text(name), Cell::Number(value)];
        markdown(
            &["Metric", "Value"],
            &[row("a | b", Some(1234.5678)), row("c", Some(3.0)), row("d", Some(0.012345678)), row("e", None)],
            alignment,
        )
    }

    #[test]
    fn numbers_stand_where_the_user_wants_them() {
        let all = [NumberAlignment::Left, NumberAlignment::Center, NumberAlignment::Right, NumberAlignment::Decimal];
        insta::assert_snapshot!(all.map(table).join("\n"));
    }

    #[test]
    fn numbers_have_six_significant_digits_for_people() {
        for (number, expected) in [
            (0.0, "0"),
            (12.0, "12"),
            (0.1 + 0.2, "0.3"),
            (1_234_567.891, "1234568"),
            (123_456.78, "123457"),
            (99_999.95, "99999.9"),
            (0.000_012_345_678, "1.23457e-05"),
            (0.000_123_456_78, "0.000123457"),
            (-2.5, "-2.5"),
        ] {
            assert_eq!(six_digits(number), expected);
        }
        for (number, decimals, expected) in
            [(1.0, 2, "+1.00"), (-1.0, 2, "-1.00"), (0.001, 2, "0.00"), (-0.001, 2, "0.00"), (0.0, 5, "0.00000")]
        {
            assert_eq!(signed(number, decimals), expected);
        }
    }

    #[test]
    fn what_csv_would_misread_is_quoted() {
        let text = csv(&["a", "b"], &[vec![Cell::text("x, \"y\""), Cell::Number(Some(0.1234567))]]);
        assert_eq!(text, "a,b\n\"x, \"\"y\"\"\",0.1234567\n");
    }
}

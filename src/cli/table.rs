//! Tables that fit a terminal: columns are left out or wrapped where it is narrow. In a pipe every value is whole, one row a line.

/// The narrowest that a wrapped column gets, in characters.
const MIN_WRAPPED: usize = 12;
/// What stands between two columns.
const GAP: usize = 2;

/// Rows under a header, laid out in columns two blanks apart.
#[derive(Debug, Default)]
pub struct Table {
    header: Vec<&'static str>,
    optional: Vec<&'static str>,
    wrapped: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with this header and these rows; each row has as many cells as the header.
    pub fn new(header: &[&'static str], rows: impl IntoIterator<Item = Vec<String>>) -> Self {
        Table { header: header.to_vec(), rows: rows.into_iter().collect(), ..Table::default() }
    }

    /// Columns that a narrow terminal does not show; the last of them goes first, and all before a column is wrapped.
    pub fn optional(mut self, columns: &[&'static str]) -> Self {
        self.optional = columns.to_vec();
        self
    }

    /// Columns whose cells go on in the next line where the terminal is narrow.
    pub fn wrapped(mut self, columns: &[&'static str]) -> Self {
        self.wrapped = columns.to_vec();
        self
    }

    /// Whether it needs no more than this many characters a line.
    pub fn fits(&self, width: usize) -> bool {
        let all: Vec<usize> = (0..self.header.len()).collect();
        line_width(all.iter().map(|&column| self.column_width(column))) <= width
    }

    /// Lays it out for a terminal of `width` characters; without one every value stays whole.
    pub fn render(&self, width: Option<usize>) -> String {
        let shown = self.shown(width);
        let widths = self.widths(&shown, width);
        let header = shown.iter().map(|&column| vec![self.header[column].to_owned()]).collect();
        let mut text = lines(header, &widths);
        for row in &self.rows {
            let cells = shown.iter().zip(&widths).map(|(&column, &width)| wrap(row.get(column).map_or("", String::as_str), width));
            text += &lines(cells.collect(), &widths);
        }
        text
    }

    /// The numbers of the columns that are shown.
    fn shown(&self, width: Option<usize>) -> Vec<usize> {
        let mut shown: Vec<usize> = (0..self.header.len()).collect();
        let Some(width) = width else { return shown };
        for name in self.optional.iter().rev() {
            if line_width(shown.iter().map(|&column| self.column_width(column))) <= width {
                break;
            }
            shown.retain(|&column| self.header[column] != *name);
        }
        shown
    }

    /// How wide the shown columns are: as their widest cell, but wrapped ones share what the others leave.
    fn widths(&self, shown: &[usize], width: Option<usize>) -> Vec<usize> {
        let mut widths: Vec<usize> = shown.iter().map(|&column| self.column_width(column)).collect();
        let Some(width) = width else { return widths };
        let mut wrapped: Vec<usize> = (0..shown.len()).filter(|&place| self.is_wrapped(shown[place])).collect();
        wrapped.sort_by_key(|&place| widths[place]);
        for (done, &place) in wrapped.iter().enumerate() {
            let others: usize = (0..shown.len()).filter(|other| !wrapped[done..].contains(other)).map(|other| widths[other]).sum();
            let left = width.saturating_sub(others + GAP * shown.len().saturating_sub(1));
            let share = (left / (wrapped.len() - done)).max(MIN_WRAPPED).max(self.header[shown[place]].len());
            widths[place] = widths[place].min(share);
        }
        widths
    }

    fn is_wrapped(&self, column: usize) -> bool {
        self.wrapped.contains(&self.header[column])
    }

    fn column_width(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.max().unwrap_or(0).max(self.header[column].len())
    }
}

fn line_width(columns: impl Iterator<Item = usize>) -> usize {
    columns.map(|width| width + GAP).sum::<usize>().saturating_sub(GAP)
}

/// The lines of one row whose cells have several lines each.
fn lines(cells: Vec<Vec<String>>, widths: &[usize]) -> String {
    let height = cells.iter().map(Vec::len).max().unwrap_or(0);
    let line = |number: usize| {
        let padded = cells.iter().zip(widths).map(|(cell, &width)| format!("{:width$}", cell.get(number).map_or("", String::as_str)));
        format!("{}\n", padded.collect::<Vec<_>>().join("  ").trim_end())
    };
    (0..height).map(line).collect()
}

/// Splits a text into lines of at most `width` characters: between words where it can, else after `/` or `,`, else anywhere.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut rest: Vec<char> = text.chars().collect();
    while rest.len() > width.max(1) {
        let line = &rest[..=width];
        let word_end = line.iter().rposition(|letter| *letter == ' ').filter(|&end| end > 0);
        let part_end = line[..width].iter().rposition(|letter| matches!(letter, '/' | ',')).map(|end| end + 1);
        let (end, next) = match (word_end, part_end) {
            (Some(end), _) => (end, end + 1),
            (None, Some(end)) => (end, end),
            (None, None) => (width.max(1), width.max(1)),
        };
        lines.push(rest[..end].iter().collect());
        rest.drain(..next);
    }
    lines.push(rest.into_iter().collect());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[&str]) -> Vec<String> {
        cells.iter().map(|cell| (*cell).to_owned()).collect()
    }

    #[test]
    fn tables_line_up() {
        let table = Table::new(&["X", "Y"], [row(&["a", "long cell"]), row(&["bcd", ""])]);
        assert_eq!(table.render(None), "X    Y\na    long cell\nbcd\n");
    }

    #[test]
    fn a_narrow_terminal_gets_fewer_columns_and_a_pipe_all() {
        let table = Table::new(&["NAME", "SIZE", "OWN", "CREATED"], [row(&["shop", "10 MiB", "2 MiB", "2026-11-30"])]);
        let table = table.optional(&["CREATED", "OWN"]);
        assert_eq!(table.render(Some(32)), "NAME  SIZE    OWN    CREATED\nshop  10 MiB  2 MiB  2026-11-30\n");
        assert_eq!(table.render(Some(30)), "NAME  SIZE    CREATED\nshop  10 MiB  2026-11-30\n");
        assert_eq!(table.render(Some(12)), "NAME  SIZE\nshop  10 MiB\n");
        assert!(table.render(None).contains("2026-11-30") && table.fits(33) && !table.fits(30));
    }

    #[test]
    fn wrapped_columns_share_what_the_others_leave() {
        let table = Table::new(&["A", "WHAT", "FIX"], [row(&["1", "the disk is too small for it", "free some space"])]);
        let table = table.wrapped(&["WHAT", "FIX"]);
        let text = table.render(Some(36));
        assert_eq!(text, "A  WHAT              FIX\n1  the disk is too   free some space\n   small for it\n");
        assert!(table.render(Some(30)).lines().all(|line| line.chars().count() <= 30));
    }

    #[test]
    fn texts_are_split_between_words_or_after_slashes_or_anywhere() {
        for (text, width, expected) in [
            ("one two three", 7, &["one two", "three"][..]),
            ("registry.example.com/team/shop", 21, &["registry.example.com/", "team/shop"]),
            ("abcdefgh", 3, &["abc", "def", "gh"]),
            ("", 5, &[""]),
            ("äöü äöü", 3, &["äöü", "äöü"]),
        ] {
            assert_eq!(wrap(text, width), expected, "{text}");
        }
    }
}

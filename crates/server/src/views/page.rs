//! Pages of lists: a bounded number of rows, and a cursor for the next ones.

use edgewright_api::routes;

use super::ViewError;

/// Which part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    /// The largest number of rows.
    pub limit: u32,
    /// After this row; from the start if none is given.
    pub cursor: Option<String>,
}

/// Rows of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// The cursor of the next page; none at the end.
    pub next: Option<String>,
}

impl PageRequest {
    /// The whole list, for readers in this process.
    pub const ALL: Self = Self { limit: u32::MAX, cursor: None };

    /// The first rows of a list, for readers in this process.
    pub const fn first(limit: u32) -> Self {
        Self { limit, cursor: None }
    }

    /// A page as a client asks for it.
    pub fn of_client(limit: Option<u32>, default: u32, cursor: Option<String>) -> Self {
        Self { limit: limit.unwrap_or(default).clamp(1, routes::LARGEST_LIMIT), cursor }
    }

    /// The number of rows to read: one more than the page, to find out whether another page follows.
    pub(super) fn rows(&self) -> usize {
        usize::try_from(self.limit).unwrap_or(usize::MAX).saturating_add(1)
    }

    /// The cursor as `parse` reads it.
    pub(super) fn after<'c, T>(
        &'c self,
        parse: impl FnOnce(&'c str) -> Option<T>,
    ) -> Result<Option<T>, ViewError> {
        let Some(text) = self.cursor.as_deref() else { return Ok(None) };
        parse(text).map(Some).ok_or_else(|| ViewError::Cursor { text: text.chars().take(100).collect() })
    }

    /// Cuts the rows that were read to the page.
    pub(super) fn cut<T>(&self, mut rows: Vec<T>, cursor: impl FnOnce(&T) -> String) -> Page<T> {
        let has_more = rows.len() >= self.rows();
        rows.truncate(self.rows() - 1);
        let next = rows.last().filter(|_| has_more).map(cursor);
        Page { rows, next }
    }
}

/// A cursor of a list that is sorted by source and name.
pub(super) fn named<S, N>(text: &str) -> Option<(S, N)>
where
    S: std::str::FromStr,
    N: std::str::FromStr,
{
    let (source, name) = text.split_once('/')?;
    Some((source.parse().ok()?, name.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_a_cursor_only_if_rows_follow() {
        let page = PageRequest::first(2);
        assert_eq!(page.rows(), 3);
        let cut = |rows: Vec<u32>| page.cut(rows, u32::to_string);
        assert_eq!(cut(vec![1, 2]), Page { rows: vec![1, 2], next: None });
        assert_eq!(cut(vec![1, 2, 3]), Page { rows: vec![1, 2], next: Some("2".to_owned()) });
        assert_eq!(PageRequest::ALL.cut(vec![1], u32::to_string).next, None);
        assert_eq!(PageRequest::of_client(Some(0), 20, None).limit, 1);
        assert_eq!(PageRequest::of_client(Some(u32::MAX), 20, None).limit, routes::LARGEST_LIMIT);
        let wrong = PageRequest { limit: 1, cursor: Some("x".to_owned()) };
        assert!(matches!(wrong.after(|text| text.parse::<u32>().ok()), Err(ViewError::Cursor { .. })));
    }
}

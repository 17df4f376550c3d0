//! Which rows are computed together, and how much memory they get: arithmetic without a device.

use super::super::forward::padded;
use super::super::slab::Cell;
use super::{Limits, Request};

/// Prompt tokens of one call, padding included. More of them make a call longer without making it more efficient.
pub(super) const CHUNK: usize = 512;
/// Prompt tokens between two steps of the running rows, so that new rows do not hold them up.
pub(super) const BETWEEN_STEPS: usize = 1024;
/// Padding that is cheaper than another call: a call costs about as much as this many tokens before it computes any.
const PADDING: usize = 12;
/// The least capacity of a row.
const LEAST: usize = 256;

/// Tokens of memory that a request may come to need, with room for padding.
pub(super) fn tokens_of(request: &Request, multiple: usize) -> usize {
    request.prompt.len() + request.sampling.max_tokens + padded(1, 1, multiple)
}

/// Tokens of the next call for a row that has `left` tokens to read and is read alone.
///
/// Never one token out of many: the attention kernel computes a single token in another order, and what a row gets must not depend on how its prompt
/// was cut.
pub(super) fn piece(left: usize) -> usize {
    match left.checked_sub(CHUNK) {
        None | Some(0) => left,
        Some(1) => CHUNK - 1,
        Some(_) => CHUNK,
    }
}

/// The length of the start of a prompt of `tokens` tokens that may come from memory: the rest has at least two tokens, for the same reason.
pub(super) fn shared(tokens: usize, shared: usize) -> Option<usize> {
    /// Shorter ones cost more to keep than to compute.
    const LEAST: usize = 8;
    Some(shared.min(tokens.saturating_sub(2))).filter(|shared| *shared >= LEAST)
}

/// A waiting row: its number in the batch, the tokens it still has to read, those it has read, and its age (lower is older).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) row: usize,
    pub(super) left: usize,
    pub(super) past: usize,
    pub(super) age: u64,
}

/// The rows of the next call, in rising order, and how many tokens each of them reads at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) rows: Vec<usize>,
    pub(super) width: usize,
}

/// Chooses the oldest row and others of about its length, so that little is padded and no row waits forever. A row longer than a chunk goes alone, in
/// pieces; all others are read whole.
pub(super) fn group(mut waiting: Vec<Waiting>, capacity: usize, multiple: usize) -> Option<Group> {
    waiting.sort_by_key(|row| (row.left, row.age));
    let oldest = waiting.iter().enumerate().min_by_key(|(_, row)| row.age)?.0;
    let first = waiting[oldest];
    if first.left > CHUNK {
        return Some(Group { rows: vec![first.row], width: piece(first.left) });
    }
    let (mut from, mut to) = (oldest, oldest + 1);
    let (mut width, mut sum, mut past) = (first.left, first.left, first.past);
    loop {
        let shorter = from.checked_sub(1).map(|position| waiting[position]);
        let longer = waiting.get(to).copied();
        // Of the two neighbours, the one whose length is nearer.
        let take_longer = match (shorter, longer) {
            (Some(shorter), Some(longer)) => longer.left - width <= width - shorter.left,
            (None, Some(_)) => true,
            (Some(_), None) => false,
            (None, None) => break,
        };
        let Some(next) = (if take_longer { longer } else { shorter }) else { break };
        let (count, wide) = (to - from + 1, width.max(next.left));
        let fits = count * wide <= CHUNK
            && count * wide - (sum + next.left) <= PADDING + sum / 8
            && past.max(next.past) + padded(wide, count, multiple) <= capacity;
        if !fits {
            break;
        }
        if take_longer {
            to += 1
        } else {
            from -= 1
        }
        (width, sum, past) = (wide, sum + next.left, past.max(next.past));
    }
    let mut rows: Vec<usize> = waiting[from..to].iter().map(|row| row.row).collect();
    rows.sort_unstable();
    Some(Group { rows, width })
}

/// Rows and tokens per row of a slab for requests of at most `tokens` tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) rows: usize,
    pub(super) capacity: usize,
}

/// A power of two, so that sizes seldom change; the exact size where that would cost rows. A quarter of the memory is left to prefixes unless a single
/// request needs it.
pub(super) fn size(tokens: usize, limits: &Limits, cell: Cell, multiple: usize) -> Size {
    let wanted = limits.slots.next_multiple_of(multiple);
    let rows = |capacity: usize, bytes: usize| {
        let fit = bytes / (capacity * cell.bytes()).max(1);
        (fit / multiple * multiple).min(wanted)
    };
    let most = limits.cache_bytes / 4 * 3;
    let rounded = tokens.next_power_of_two().max(LEAST);
    if rows(rounded, most) == wanted {
        return Size { rows: wanted, capacity: rounded };
    }
    let exact = rows(tokens, most);
    Size { rows: if exact == 0 { rows(tokens, limits.cache_bytes) } else { exact }, capacity: tokens }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CELL: Cell = Cell { layers: 30, kv_heads: 3, head_dim: 64 };

    fn waiting(lengths: &[usize]) -> Vec<Waiting> {
        lengths.iter().enumerate().map(|(row, left)| Waiting { row, left: *left, past: 0, age: row as u64 }).collect()
    }

    #[test]
    fn rows_of_about_the_same_length_as_the_oldest_are_read_together() {
        let group = group(waiting(&[40, 300, 42, 3, 38, 41]), 512, 1).unwrap();
        assert_eq!(group, Group { rows: vec![0, 2, 4, 5], width: 42 });
    }

    #[test]
    fn the_oldest_row_goes_first_however_long_it_is() {
        assert_eq!(group(waiting(&[2000, 10, 10]), 4096, 1).unwrap(), Group { rows: vec![0], width: CHUNK });
        assert_eq!(group(waiting(&[400, 10, 10]), 4096, 1).unwrap(), Group { rows: vec![0], width: 400 });
    }

    #[test]
    fn a_call_never_has_more_tokens_than_a_chunk_nor_than_the_memory() {
        let group_of = |count| group(waiting(&vec![60; count]), 512, 1).unwrap().rows.len();
        assert_eq!(group_of(30), CHUNK / 60);
        let mut rows = waiting(&[30, 34]);
        rows[1].past = 200;
        // Row 0 would be padded to 34 tokens, row 1 ends at 234.
        assert_eq!(group(rows.clone(), 234, 1).unwrap().rows.len(), 2);
        rows[0].past = 205;
        assert_eq!(group(rows, 238, 1).unwrap().rows, [0]);
    }

    #[test]
    fn no_cut_leaves_a_single_token() {
        for tokens in 2..3 * CHUNK {
            let (mut left, mut least) = (tokens, tokens);
            while left > 0 {
                least = least.min(piece(left));
                left -= piece(left);
            }
            assert!(least > 1, "{tokens}");
        }
        assert_eq!([shared(20, 30), shared(20, 9), shared(9, 9), shared(1, 1)], [Some(18), Some(9), None, None]);
    }

    #[test]
    fn short_requests_get_short_rows_and_memory_limits_their_number() {
        let limits = Limits { slots: 32, cache_bytes: 1 << 30, ..Limits::default() };
        assert_eq!(size(100, &limits, CELL, 1), Size { rows: 32, capacity: 256 });
        assert_eq!(size(300, &limits, CELL, 1), Size { rows: 32, capacity: 512 });
        // 46 080 bytes a token: 805 306 368 bytes hold 17 rows of 1000 tokens.
        assert_eq!(size(1000, &limits, CELL, 1), Size { rows: 17, capacity: 1000 });
        assert_eq!(size(1000, &limits, CELL, 2), Size { rows: 16, capacity: 1000 });
        // One row that needs more than three quarters.
        assert_eq!(size(20_000, &limits, CELL, 1), Size { rows: 1, capacity: 20_000 });
        assert_eq!(size(24_000, &limits, CELL, 1).rows, 0);
    }
}

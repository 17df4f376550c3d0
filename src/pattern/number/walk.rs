//! The places of a pattern, one after the other.

use super::{Anchor, Numbers, Piece, digits};

/// A number ready to be laid out.
pub(super) struct Shown {
    pub(super) digits: Vec<u8>,
    pub(super) negative: bool,
    /// Places before the first digit.
    pub(super) spaces: usize,
    pub(super) behind: usize,
    pub(super) roman: bool,
}

impl Shown {
    pub(super) fn roman(number: Option<u32>) -> Self {
        let digits = number.and_then(digits::roman).unwrap_or_else(|| "#".repeat(15)).into_bytes();
        Self { digits, negative: false, spaces: 0, behind: 0, roman: true }
    }
}

/// The walk over the places of a pattern.
pub(super) struct Walk<'a> {
    pattern: &'a Numbers,
    shown: &'a Shown,
    /// The place at hand, and the digit that is next.
    place: usize,
    next: usize,
    /// The place at which the number ends.
    end: usize,
    signed: bool,
    brackets: bool,
    anchor: Option<Anchor>,
    /// The last digit that is not a needless zero.
    last: Option<usize>,
    pub(super) among_digits: bool,
}

impl<'a> Walk<'a> {
    pub(super) fn new(pattern: &'a Numbers, shown: &'a Shown) -> Self {
        let places = pattern.before + pattern.shift;
        let mut anchor = pattern.anchor;
        let mut brackets = pattern.brackets;
        let signed = if pattern.plus || pattern.minus {
            pattern.minus
        } else {
            if !shown.negative && brackets && pattern.fill {
                brackets = false;
            }
            if anchor == Some(Anchor::Before) && pattern.before_sign == places {
                anchor = Some(Anchor::Behind);
            }
            !shown.negative && pattern.fill && pattern.anchor.is_none()
        };
        let point = shown.digits.iter().position(|byte| *byte == b'.').filter(|_| pattern.fill && pattern.point);
        let last = point.map(|point| {
            let relevant = shown.digits.iter().rposition(|byte| *byte != b'0').map_or(point, |at| at.max(point));
            let zeros = pattern.zeros_to.checked_sub(shown.spaces).filter(|zeros| *zeros > 0);
            zeros.map_or(relevant, |zeros| relevant.max(zeros.min(shown.digits.len() - 1)))
        });
        let mut end = (shown.behind + places).saturating_sub(1);
        if !signed && shown.spaces == 0 {
            end += 1;
        }
        end += usize::from(shown.spaces > 0) + usize::from(pattern.point);
        Self { pattern, shown, place: 0, next: 0, end, signed, brackets, anchor, last, among_digits: false }
    }

    fn digit(&self) -> Option<u8> {
        self.shown.digits.get(self.next).copied()
    }

    /// Whether the digit at hand is the zero before the point that is not shown.
    fn is_needless(&self) -> bool {
        self.pattern.zeros_from.is_none() && self.next == 0 && self.digit() == Some(b'0') && self.shown.behind != 0
    }

    /// Whether nothing is left of the digits behind the point.
    fn ends_at_point(&self) -> bool {
        self.last.is_some_and(|last| self.shown.digits.get(last) == Some(&b'.'))
    }

    /// Goes over a place. False where the number has no more digits.
    pub(super) fn place(&mut self, piece: Piece, out: &mut String) -> bool {
        self.among_digits = false;
        let zeros = self.pattern.zeros_from.filter(|from| *from <= self.place);
        let reached = self.place >= self.shown.spaces || self.pattern.zeros_from == Some(self.place);
        if !self.signed && reached && (!self.is_needless() || self.ends_at_point()) {
            self.sign_before(out);
        }
        if self.place < self.shown.spaces {
            if zeros.is_some() {
                out.push('0');
                self.among_digits = true;
            } else if !self.pattern.fill {
                out.push(' ');
            }
        } else {
            match self.digit() {
                Some(b'.') => {
                    if !self.ends_at_point() || self.pattern.fill {
                        out.push('.');
                    }
                }
                _ if self.last.is_some_and(|last| self.next > last) && piece != Piece::Zero => {}
                _ if self.is_needless() => {
                    if !self.pattern.fill {
                        out.push(' ');
                    } else if self.ends_at_point() {
                        out.push('0');
                    }
                }
                Some(digit) => {
                    out.push(char::from(digit));
                    self.among_digits = true;
                }
                None => return false,
            }
            self.next += usize::from(self.digit().is_some());
        }
        let end = if self.last == Some(self.next) { self.place } else { self.end };
        if self.place + 1 == end {
            if self.signed && self.brackets {
                out.push(if self.shown.negative { '>' } else { ' ' });
            } else if self.anchor == Some(Anchor::Behind) {
                out.push(if self.shown.negative { '-' } else { '+' });
            }
        }
        self.place += 1;
        true
    }

    fn sign_before(&mut self, out: &mut String) {
        match self.anchor {
            Some(Anchor::Behind) => return,
            Some(Anchor::Before) => out.push(if self.shown.negative { '-' } else { '+' }),
            None if self.brackets => out.push(if self.shown.negative { '<' } else { ' ' }),
            None if self.shown.negative => out.push('-'),
            None if !self.pattern.fill => out.push(' '),
            None => {}
        }
        self.signed = true;
    }
}

//! What is left of ranges of addresses without others, as prefixes.

/// First and last address.
pub type Range = (u128, u128);

/// The prefixes that make up `from` without `without`, as address and length. Both are in order and do not overlap; `width` is
/// that of an address.
pub fn blocks(
    width: u8,
    from: impl Iterator<Item = Range>,
    without: impl Iterator<Item = Range>,
) -> impl Iterator<Item = (u128, u8)> {
    remaining(from, without).flat_map(move |(first, last)| {
        let mut next = Some(first);
        std::iter::from_fn(move || {
            let start = next.filter(|start| *start <= last)?;
            // The largest that begins here and fits.
            let aligned = if start == 0 { u32::from(width) } else { start.trailing_zeros() };
            let fitting = (last - start).checked_add(1).map_or(u128::BITS, u128::ilog2);
            let host_bits = aligned.min(fitting).min(u32::from(width));
            next = 1u128.checked_shl(host_bits).and_then(|size| start.checked_add(size));
            Some((start, width - u8::try_from(host_bits).unwrap_or(width)))
        })
    })
}

/// What is left of ranges, each as long as it can be: two that touch are one.
fn remaining(
    from: impl Iterator<Item = Range>,
    without: impl Iterator<Item = Range>,
) -> impl Iterator<Item = Range> {
    let mut from = touching_joined(from);
    let mut without = touching_joined(without).peekable();
    let mut rest: Option<Range> = None;
    std::iter::from_fn(move || {
        loop {
            let (first, last) = rest.take().or_else(|| from.next())?;
            while without.next_if(|hole| hole.1 < first).is_some() {}
            match without.peek() {
                Some(&(hole, end)) if hole <= last => {
                    // The hole may reach into the next range, so it stays.
                    rest = end.checked_add(1).filter(|next| *next <= last).map(|next| (next, last));
                    if first < hole {
                        return Some((first, hole - 1));
                    }
                }
                _ => return Some((first, last)),
            }
        }
    })
}

fn touching_joined(ranges: impl Iterator<Item = Range>) -> impl Iterator<Item = Range> {
    let mut ranges = ranges.peekable();
    std::iter::from_fn(move || {
        let (first, mut last) = ranges.next()?;
        while let Some((_, end)) = ranges.next_if(|next| last.checked_add(1) == Some(next.0)) {
            last = end;
        }
        Some((first, last))
    })
}

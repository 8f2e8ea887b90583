//! Which addresses are read together: pure planning of requests over the points of one table.

/// Where a point lies in its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Extent {
    /// First address.
    pub start: u16,
    /// Registers or bits, at least 1. It does not reach beyond address 65,535.
    pub count: u16,
}

impl Extent {
    /// The address behind the last one.
    pub const fn end(self) -> u32 {
        self.start as u32 + self.count as u32
    }

    /// Whether `inner` lies in it.
    pub const fn contains(self, inner: Self) -> bool {
        self.start <= inner.start && inner.end() <= self.end()
    }

    /// The part of `answer`, which was read from `start` on, that lies in it; `None` where the answer does not reach.
    pub fn within<T>(self, start: u16, answer: &[T]) -> Option<&[T]> {
        let from = usize::from(self.start.checked_sub(start)?);
        answer.get(from..from + usize::from(self.count))
    }
}

/// What one request may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Unused addresses that may be read along between two points.
    pub max_gap: u16,
    /// Addresses in one request.
    pub max_count: u16,
}

/// One request: a range of addresses, and the points in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// What is asked for.
    pub range: Extent,
    /// The points' indexes, by address.
    pub points: Vec<usize>,
}

/// The fewest requests, by ascending address, that read every one of `points` (indexes into `extents`) once within
/// `bounds`; an extent that is longer than `max_count` has a request of its own.
pub fn plan_reads(extents: &[Extent], points: Vec<usize>, bounds: Bounds) -> Vec<Read> {
    merge(extents, points, |range, next| {
        let gap = u32::from(next.start).saturating_sub(range.end());
        let end = range.end().max(next.end());
        gap <= u32::from(bounds.max_gap) && end - u32::from(range.start) <= u32::from(bounds.max_count)
    })
}

/// What to try after `read` failed: the same without gaps, or else each point by itself. Empty where nothing can be
/// split any more.
pub fn split(read: &Read, extents: &[Extent]) -> Vec<Read> {
    let without_gaps = merge(extents, read.points.clone(), |range, next| u32::from(next.start) <= range.end());
    if without_gaps.len() > 1 {
        return without_gaps;
    }
    let single = merge(extents, read.points.clone(), |range, next| range == next);
    if single.len() > 1 { single } else { Vec::new() }
}

fn merge(extents: &[Extent], mut points: Vec<usize>, fits: impl Fn(Extent, Extent) -> bool) -> Vec<Read> {
    points.sort_by_key(|point| extents[*point]);
    let mut reads: Vec<Read> = Vec::new();
    for point in points {
        let extent = extents[point];
        match reads.last_mut() {
            Some(read) if fits(read.range, extent) => {
                let end = read.range.end().max(extent.end());
                read.range.count = (end - u32::from(read.range.start)) as u16;
                read.points.push(point);
            }
            _ => reads.push(Read { range: extent, points: vec![point] }),
        }
    }
    reads
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REGISTERS: Bounds = Bounds { max_gap: 16, max_count: 125 };

    fn extents(list: &[(u16, u16)]) -> Vec<Extent> {
        list.iter().map(|(start, count)| Extent { start: *start, count: *count }).collect()
    }

    fn ranges(reads: &[Read]) -> Vec<(u16, u16)> {
        reads.iter().map(|read| (read.range.start, read.range.count)).collect()
    }

    #[test]
    fn gaps_are_filled_up_to_max_gap_and_requests_up_to_max_count() {
        let planned = |list: &[(u16, u16)]| ranges(&plan_reads(&extents(list), (0..list.len()).collect(), REGISTERS));
        assert_eq!(planned(&[(6, 2), (0, 2), (0x34, 2)]), [(0, 8), (0x34, 2)]);
        assert_eq!(planned(&[(0, 2), (18, 1)]), [(0, 19)], "a gap of 16");
        assert_eq!(planned(&[(0, 2), (19, 1)]), [(0, 2), (19, 1)], "a gap of 17");
        assert_eq!(planned(&[(0, 100), (100, 25)]), [(0, 125)]);
        assert_eq!(planned(&[(0, 100), (100, 26)]), [(0, 100), (100, 26)]);
        assert_eq!(planned(&[(112, 1), (110, 4), (112, 1)]), [(110, 4)], "points may overlap");
        assert_eq!(planned(&[(65_535, 1), (65_534, 1)]), [(65_534, 2)]);
        assert_eq!(planned(&[]), []);
    }

    #[test]
    fn a_failed_read_is_split_at_its_gaps_and_then_into_its_points() {
        let extents = extents(&[(0, 2), (2, 2), (10, 1), (10, 1)]);
        let merged = plan_reads(&extents, vec![0, 1, 2, 3], REGISTERS).remove(0);
        assert_eq!(merged.range, Extent { start: 0, count: 11 });
        let parts = split(&merged, &extents);
        assert_eq!(ranges(&parts), [(0, 4), (10, 1)]);
        assert_eq!(ranges(&split(&parts[0], &extents)), [(0, 2), (2, 2)]);
        assert_eq!(split(&parts[1], &extents), [], "two points at the same place are one request");
    }

    fn arbitrary_extents() -> impl Strategy<Value = Vec<Extent>> {
        let extent = (0..400u16, 1..=125u16).prop_map(|(start, count)| Extent { start, count });
        let high = (65_400..=65_535u16, 1..=125u16)
            .prop_map(|(start, count)| Extent { start, count: count.min((65_536 - u32::from(start)) as u16) });
        prop::collection::vec(prop_oneof![3 => extent, 1 => high], 0..60)
    }

    fn assert_covers(reads: &[Read], extents: &[Extent], mut points: Vec<usize>) {
        let mut covered: Vec<usize> = reads.iter().flat_map(|read| read.points.clone()).collect();
        covered.sort_unstable();
        points.sort_unstable();
        assert_eq!(covered, points, "every point exactly once");
        for read in reads {
            assert!(read.range.end() <= 65_536);
            assert!(read.points.iter().all(|point| read.range.contains(extents[*point])));
        }
    }

    proptest! {
        #[test]
        fn every_point_is_read_once_and_no_request_is_too_long(
            extents in arbitrary_extents(), max_gap in 0..40u16, max_count in 125..=2000u16,
        ) {
            let reads = plan_reads(&extents, (0..extents.len()).collect(), Bounds { max_gap, max_count });
            assert_covers(&reads, &extents, (0..extents.len()).collect());
            prop_assert!(reads.iter().all(|read| read.range.count <= max_count));
            let gaps_are_short = reads.iter().all(|read| {
                let mut used = vec![false; usize::from(read.range.count)];
                for point in &read.points {
                    let from = usize::from(extents[*point].start - read.range.start);
                    used[from..from + usize::from(extents[*point].count)].fill(true);
                }
                used.split(|used| *used).all(|gap| gap.len() <= usize::from(max_gap))
            });
            prop_assert!(gaps_are_short);
        }

        #[test]
        fn splitting_ends_and_loses_no_point(extents in arbitrary_extents()) {
            for read in plan_reads(&extents, (0..extents.len()).collect(), REGISTERS) {
                let mut open = vec![read.clone()];
                for _ in 0..2 {
                    let mut next = Vec::new();
                    for read in &open {
                        let parts = split(read, &extents);
                        if parts.is_empty() {
                            next.push(read.clone());
                        }
                        next.extend(parts);
                    }
                    assert_covers(&next, &extents, read.points.clone());
                    open = next;
                }
                prop_assert!(open.iter().all(|read| split(read, &extents).is_empty()), "two steps reach single points");
            }
        }
    }
}

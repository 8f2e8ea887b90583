//! Where the living messages of a queue stand: their sequences, in runs that stand in one segment.

use std::collections::VecDeque;

use super::record::Sequences;

/// The number of a segment.
pub(super) type SegmentNumber = u64;

/// A run of living sequences that stand in one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub first: u64,
    pub last: u64,
    /// `None` while nobody knows: a checkpoint says what lives, not where.
    pub segment: Option<SegmentNumber>,
    /// Bytes of the messages, roughly, once some have gone.
    pub bytes: u64,
}

/// Living sequences, in their order. Runs are few: one for each segment, and the gaps of what was acknowledged out of
/// order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Extents {
    runs: VecDeque<Extent>,
    count: u64,
    bytes: u64,
}

impl Extent {
    fn len(&self) -> u64 {
        self.last - self.first + 1
    }

    /// The bytes of `count` of its messages, as far as is known.
    fn share(&self, count: u64) -> u64 {
        if count == self.len() {
            self.bytes
        } else {
            (u128::from(self.bytes) * u128::from(count) / u128::from(self.len())) as u64
        }
    }

    fn continues(&self, next: &Self) -> bool {
        self.segment == next.segment && self.last + 1 == next.first
    }
}

impl Extents {
    /// Living messages.
    pub fn len(&self) -> u64 {
        self.count
    }

    /// Their bytes, roughly.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The highest living sequence.
    pub fn last(&self) -> Option<u64> {
        self.runs.back().map(|run| run.last)
    }

    /// The runs, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Extent> {
        self.runs.iter()
    }

    /// The runs from the sequence `from` on; the first may begin before it.
    pub fn from(&self, from: u64) -> impl Iterator<Item = &Extent> {
        self.runs.range(self.position(from)..)
    }

    /// Whether the sequence lives.
    pub fn contains(&self, sequence: u64) -> bool {
        self.find(sequence).is_some()
    }

    /// Adds a run that is not there. It may stand anywhere among the others.
    pub fn insert(&mut self, run: Extent) {
        self.count += run.len();
        self.bytes += run.bytes;
        match self.runs.back_mut() {
            Some(last) if last.continues(&run) => {
                last.last = run.last;
                last.bytes += run.bytes;
                return;
            }
            Some(last) if last.last > run.first => {}
            _ => return self.runs.push_back(run),
        }
        let index = self.position(run.first);
        self.runs.insert(index, run);
        self.join(index);
        if index > 0 {
            self.join(index - 1);
        }
    }

    /// Removes what lives of `sequences`, and calls `gone` with the segment and the number of each run that goes.
    pub fn remove(&mut self, sequences: Sequences, mut gone: impl FnMut(Option<SegmentNumber>, u64)) {
        let mut index = self.position(sequences.first);
        while let Some(run) = self.runs.get_mut(index) {
            let (first, last) = (run.first.max(sequences.first), run.last.min(sequences.last));
            if first > last {
                break;
            }
            let count = last - first + 1;
            let bytes = run.share(count);
            gone(run.segment, count);
            self.count -= count;
            self.bytes -= bytes;
            let behind = Extent { first: last + 1, bytes: 0, ..*run };
            if first > run.first {
                let before = Extent { last: first - 1, ..*run };
                let before_bytes = run.share(before.len());
                let rest = run.bytes - bytes;
                let has_more = run.last > last;
                *run = Extent { bytes: if has_more { before_bytes.min(rest) } else { rest }, ..before };
                index += 1;
                if has_more {
                    let bytes = rest - before_bytes.min(rest);
                    self.runs.insert(index, Extent { bytes, ..behind });
                    break;
                }
            } else if run.last > last {
                *run = Extent { bytes: run.bytes - bytes, ..behind };
                break;
            } else {
                self.runs.remove(index);
            }
        }
        if self.runs.is_empty() {
            self.runs = VecDeque::new();
        }
    }

    /// Notes that the living `sequence` stands in `segment`, and its bytes; the segment where it was thought to stand
    /// before comes back. `None` where it does not live.
    pub fn relocate(&mut self, sequence: u64, segment: SegmentNumber, bytes: u64) -> Option<Option<SegmentNumber>> {
        let old = self.find(sequence)?.segment;
        if old != Some(segment) {
            self.remove(Sequences { first: sequence, last: sequence }, |_, _| ());
            self.insert(Extent { first: sequence, last: sequence, segment: Some(segment), bytes });
        }
        Some(old)
    }

    fn find(&self, sequence: u64) -> Option<&Extent> {
        self.runs.get(self.position(sequence)).filter(|run| run.first <= sequence)
    }

    /// The first run that does not end before `sequence`.
    fn position(&self, sequence: u64) -> usize {
        match self.runs.front() {
            // Messages mostly go in order.
            Some(first) if first.last >= sequence => 0,
            _ => self.runs.partition_point(|run| run.last < sequence),
        }
    }

    fn join(&mut self, index: usize) {
        if let (Some(&run), Some(&next)) = (self.runs.get(index), self.runs.get(index + 1))
            && run.continues(&next)
        {
            self.runs[index] = Extent { last: next.last, bytes: run.bytes + next.bytes, ..run };
            self.runs.remove(index + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    use super::*;

    fn one(sequence: u64, segment: u64) -> Extent {
        Extent { first: sequence, last: sequence, segment: Some(segment), bytes: 10 }
    }

    proptest! {
        #[test]
        fn extents_are_a_map_from_sequence_to_segment(
            steps in prop::collection::vec((0..3u8, 0..40u64, 0..6u64, 0..3u64), 0..200),
        ) {
            let mut extents = Extents::default();
            let mut model = BTreeMap::new();
            for (step, sequence, span, segment) in steps {
                match step {
                    0 => if let std::collections::btree_map::Entry::Vacant(entry) = model.entry(sequence) {
                        extents.insert(one(sequence, segment));
                        entry.insert(segment);
                    },
                    1 => {
                        let mut gone = BTreeMap::<u64, u64>::new();
                        extents.remove(Sequences { first: sequence, last: sequence + span }, |segment, count| {
                            *gone.entry(segment.unwrap()).or_default() += count;
                        });
                        let mut expected = BTreeMap::<u64, u64>::new();
                        for at in sequence..=sequence + span {
                            if let Some(segment) = model.remove(&at) {
                                *expected.entry(segment).or_default() += 1;
                            }
                        }
                        prop_assert_eq!(gone, expected);
                    }
                    _ => {
                        let old = extents.relocate(sequence, segment, 10);
                        prop_assert_eq!(old, model.get(&sequence).map(|&segment| Some(segment)));
                        model.entry(sequence).and_modify(|at| *at = segment);
                    }
                }
                let found: Vec<(u64, u64)> = extents.iter()
                    .flat_map(|run| (run.first..=run.last).map(|at| (at, run.segment.unwrap())))
                    .collect();
                prop_assert_eq!(&found, &model.iter().map(|(&a, &b)| (a, b)).collect::<Vec<_>>());
                prop_assert_eq!(extents.len(), model.len() as u64);
                prop_assert_eq!(extents.bytes(), extents.iter().map(|run| run.bytes).sum::<u64>());
                if model.is_empty() {
                    prop_assert_eq!(extents.bytes(), 0);
                }
                for at in 0..50 {
                    prop_assert_eq!(extents.contains(at), model.contains_key(&at));
                }
                for pair in extents.runs.make_contiguous().windows(2) {
                    prop_assert!(pair[0].last < pair[1].first && !pair[0].continues(&pair[1]));
                }
            }
        }
    }
}

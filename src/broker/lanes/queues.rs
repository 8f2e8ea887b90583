//! All that waits for a session: in one queue for most, in several lanes for a bridge.

use std::sync::Arc;

use super::lane::Lane;
use super::{HIGH, NORMAL, Rank};
use crate::broker::delivery_queue::{DeliveryQueue, Entry, PageAt, QueueLimits, Recording};
use crate::mqtt::Millis;
use crate::store::settings::WhenFull;
use crate::store::{Journal, QueueId, Sequences};

/// All that waits for a session.
#[derive(Debug, Default)]
pub(in crate::broker) struct Queues {
    normal: DeliveryQueue,
    /// The other lanes, from 1 on; bridges alone have any.
    lanes: Option<Box<Lanes>>,
}

#[derive(Debug)]
struct Lanes {
    list: Vec<Lane>,
    /// The lane whose front was shown.
    chosen: u8,
    /// The lane to read a page for next.
    next_page: u8,
}

impl Queues {
    /// Gives the queue `lanes` beside the normal one, in their order from 1 on.
    pub(in crate::broker) fn set_lanes(&mut self, list: Vec<Lane>) {
        self.lanes = Some(Box::new(Lanes { list, chosen: NORMAL, next_page: NORMAL }));
    }

    /// The normal lane.
    pub(in crate::broker) fn normal(&mut self) -> &mut DeliveryQueue {
        &mut self.normal
    }

    /// The other lanes, from 1 on.
    pub(in crate::broker) fn lanes(&self) -> &[Lane] {
        self.lanes.as_ref().map_or(&[], |lanes| &lanes.list)
    }

    /// The lane `at`, from 1 on.
    pub(in crate::broker) fn lane_mut(&mut self, at: u8) -> Option<&mut Lane> {
        self.lanes.as_mut()?.list.get_mut(usize::from(at).checked_sub(1)?)
    }

    /// The queue in the journal of the lane `at`, where it is not the session's own.
    pub(in crate::broker) fn queue_id(&self, at: u8) -> Option<QueueId> {
        self.lanes().get(usize::from(at).checked_sub(1)?).map(|lane| lane.queue_id)
    }

    /// The number of the next message of another lane than the normal one.
    pub(in crate::broker) fn take_number(&mut self, at: u8) -> Option<u64> {
        let lane = self.lane_mut(at)?;
        lane.next_number += 1;
        Some(lane.next_number - 1)
    }

    /// Puts `entry` into its lane. Returns one that it takes the place of, or itself where it is not taken.
    pub(in crate::broker) fn push(
        &mut self,
        entry: Entry,
        recording: Option<Recording<'_>>,
        now: Millis,
    ) -> Option<Entry> {
        match self.lane_mut(entry.lane) {
            Some(lane) => lane.push(entry, recording, now),
            None => {
                self.normal.push(entry, recording);
                None
            }
        }
    }

    /// Whether a message of the normal lane would be the next to go: none waits there, nor in one that goes before it.
    pub(in crate::broker) fn is_clear(&self) -> bool {
        self.normal.is_empty() && self.lanes().get(usize::from(HIGH) - 1).is_none_or(|high| high.len() == 0)
    }

    /// What may go next at `now`, in packets of at most `maximum_packet` bytes: of the highest rank, there the oldest.
    pub(in crate::broker) fn front(&mut self, now: Millis, maximum_packet: usize) -> Option<&Entry> {
        let Some(lanes) = &mut self.lanes else {
            return self.normal.front();
        };
        let mut best = self.normal.front().map(|front| (Rank::Normal, front.since, NORMAL));
        for (at, lane) in (1..).zip(&mut lanes.list) {
            let rank = lane.rank;
            if let Some(front) = lane.front(now, maximum_packet)
                && best.is_none_or(|(best, since, _)| (rank, front.since) < (best, since))
            {
                best = Some((rank, front.since, at));
            }
        }
        let (.., at) = best?;
        lanes.chosen = at;
        match usize::from(at).checked_sub(1) {
            None => self.normal.front(),
            Some(index) => lanes.list[index].front(now, maximum_packet),
        }
    }

    /// The rank of what [`Queues::front`] has shown.
    pub(in crate::broker) fn chosen_rank(&self) -> Rank {
        let chosen = self.lanes.as_ref().map_or(NORMAL, |lanes| lanes.chosen);
        self.lanes().get(usize::from(chosen).wrapping_sub(1)).map_or(Rank::Normal, |lane| lane.rank)
    }

    /// Takes what [`Queues::front`] has shown.
    pub(in crate::broker) fn pop(&mut self, now: Millis) -> Option<Entry> {
        let chosen = self.lanes.as_ref().map_or(NORMAL, |lanes| lanes.chosen);
        match self.lane_mut(chosen) {
            Some(lane) => lane.pop(now),
            None => self.normal.pop(),
        }
    }

    /// When something that waits may go, where that is only a matter of time.
    pub(in crate::broker) fn due(&self) -> Option<Millis> {
        self.lanes().iter().filter_map(Lane::due).min()
    }

    /// Makes room for another message of `size` bytes within `limits`; see [`DeliveryQueue::make_room`]. `settle` is told
    /// the lane's queue in the journal, where that is not the session's own.
    pub(in crate::broker) fn make_room(
        &mut self,
        size: usize,
        limits: &QueueLimits,
        mut settle: impl FnMut(Option<QueueId>, Sequences),
    ) -> Option<u64> {
        if self.lanes.is_none() {
            return self.normal.make_room(size, limits, |sequences| settle(None, sequences));
        }
        if size > limits.bytes || limits.messages == 0 {
            return None;
        }
        let mut dropped = 0;
        while self.len() >= limits.messages || self.bytes().saturating_add(size) > limits.bytes {
            if limits.when_full == WhenFull::DropNewest {
                return None;
            }
            let excess = self.bytes().saturating_add(size).saturating_sub(limits.bytes);
            match self.drop_oldest(excess as u64, &mut settle) {
                0 => break,
                count => dropped += count,
            }
        }
        Some(dropped)
    }

    /// Drops the oldest of the lowest rank that has any, see [`DeliveryQueue::drop_oldest`]. Where of a topic only the
    /// newest waits, that stays.
    pub(in crate::broker) fn drop_oldest(
        &mut self,
        bytes: u64,
        mut settle: impl FnMut(Option<QueueId>, Sequences),
    ) -> u64 {
        let Some(lanes) = &mut self.lanes else {
            return self.normal.drop_oldest(bytes, |sequences| settle(None, sequences));
        };
        let mut worst = (!self.normal.is_empty()).then_some((Rank::Normal, self.normal.bytes(), NORMAL));
        for (at, lane) in (1..).zip(&lanes.list) {
            let (rank, bytes) = (lane.rank, lane.queue.bytes());
            if lane.is_sent()
                && !lane.queue.is_empty()
                && worst.is_none_or(|(worst, most, _)| (rank, bytes) > (worst, most))
            {
                worst = Some((rank, bytes, at));
            }
        }
        let Some((.., at)) = worst else {
            return 0;
        };
        let (queue, id) = match usize::from(at).checked_sub(1) {
            None => (&mut self.normal, None),
            Some(index) => {
                let lane = &mut lanes.list[index];
                (&mut lane.queue, Some(lane.queue_id))
            }
        };
        queue.drop_oldest(bytes, |sequences| settle(id, sequences))
    }

    /// Whether a page is to be read.
    pub(in crate::broker) fn wants_page(&self) -> bool {
        self.normal.wants_page() || self.lanes().iter().any(|lane| lane.is_sent() && lane.queue.wants_page())
    }

    /// The page to read next, if one is wanted, and its lane: in turns.
    pub(in crate::broker) fn next_page(&mut self, journal: &Journal) -> Option<(u8, PageAt)> {
        let Some(lanes) = &mut self.lanes else {
            return self.normal.next_page(journal).map(|page| (NORMAL, page));
        };
        let count = lanes.list.len() as u8 + 1;
        let mut later = None;
        for step in 0..count {
            let at = (lanes.next_page + step) % count;
            let page = match usize::from(at).checked_sub(1) {
                None => self.normal.next_page(journal),
                Some(index) if lanes.list[index].is_sent() => lanes.list[index].queue.next_page(journal),
                Some(_) => None,
            };
            match page {
                Some(PageAt::Now(_)) => {
                    lanes.next_page = (at + 1) % count;
                    return page.map(|page| (at, page));
                }
                Some(PageAt::Later(_)) => later = page.map(|page| (at, page)),
                None => {}
            }
        }
        later
    }

    /// Puts what was read behind what its lane has in memory, see [`DeliveryQueue::put_page`]. Returns the entries that
    /// newer ones have taken the place of.
    pub(in crate::broker) fn put_page(&mut self, at: u8, entries: Vec<Entry>, end: u64, now: Millis) -> Vec<Entry> {
        match self.lane_mut(at) {
            Some(lane) => lane.put_page(entries, end, now),
            None => {
                self.normal.put_page(entries, end);
                Vec::new()
            }
        }
    }

    /// The first sequence of the lane `at` that may be on disk alone.
    pub(in crate::broker) fn first_on_disk(&mut self, at: u8) -> Option<u64> {
        match self.lane_mut(at) {
            Some(lane) => lane.queue.first_on_disk(),
            None => self.normal.first_on_disk(),
        }
    }

    /// Removes the entries of QoS 0, and puts back what was prepared: the connection has gone.
    pub(in crate::broker) fn remove_at_most_once(&mut self) {
        self.normal.remove_if(|entry| entry.sequence.is_none());
        for lane in self.lanes.iter_mut().flat_map(|lanes| &mut lanes.list) {
            lane.remove_at_most_once();
        }
    }

    /// Entries of QoS 0 that wait, and their bytes.
    pub(in crate::broker) fn at_most_once(&self) -> (usize, usize) {
        let lanes = self.lanes().iter().map(|lane| lane.queue.at_most_once());
        lanes.fold(self.normal.at_most_once(), |(count, bytes), (more, size)| (count + more, bytes + size))
    }

    /// Entries that wait, without those that were set aside.
    pub(in crate::broker) fn len(&self) -> usize {
        self.normal.len() + self.sent_lanes().map(Lane::len).sum::<usize>()
    }

    /// Bytes of what waits, with each message's bookkeeping.
    pub(in crate::broker) fn bytes(&self) -> usize {
        self.normal.bytes() + self.sent_lanes().map(Lane::bytes).sum::<usize>()
    }

    /// Whether nothing waits.
    pub(in crate::broker) fn is_empty(&self) -> bool {
        self.normal.is_empty() && self.sent_lanes().all(|lane| lane.len() == 0)
    }

    /// Since when the oldest of those in memory waits.
    pub(in crate::broker) fn oldest(&self) -> Option<Millis> {
        let normal = self.normal.front().map(|entry| entry.since);
        self.sent_lanes().filter_map(Lane::oldest).chain(normal).min()
    }

    fn sent_lanes(&self) -> impl Iterator<Item = &Lane> {
        self.lanes().iter().filter(|lane| lane.is_sent())
    }
}

/// What the journal knows the lane `lane` of `bridge` by.
pub(in crate::broker) fn lane_name(bridge: &str, lane: &str) -> Arc<str> {
    format!("{bridge}{SEPARATOR}{lane}").into()
}

/// Stands between a bridge's name and a lane's: no name of a bridge has it.
pub(in crate::broker) const SEPARATOR: char = '\u{1}';

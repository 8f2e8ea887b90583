//! Writing: by whoever ends the turn while the socket takes it, else by the link's task.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use super::outgoing::Attached;
use super::wire::Output;
use super::{Attention, SessionSlot, Turn};
use crate::broker::outbox::Outbox;
use crate::broker::turn;
use crate::metrics::Tally;
use crate::mqtt::packet::Disconnect;
use crate::mqtt::{Millis, ReasonCode, Version};
use crate::store::Pending;

impl SessionSlot {
    /// Wakes the task of its connection, which flushes.
    pub(in crate::broker) fn wake(&self) {
        if let Attached::Wire(wire) = &mut self.lock().attached {
            wire.wake();
        }
    }

    /// Sees to it that what waits is written, from outside a batch.
    pub fn flush_now(self: &Arc<Self>) {
        self.wake();
        turn::finish_batch();
    }

    /// Writes what the socket takes; the rest is left to the connection's task.
    pub(in crate::broker) fn flush(self: &Arc<Self>) {
        self.write(None);
    }

    /// What the link's task of `epoch` has to do, after it has written what a blocked socket takes now.
    /// Its waker is kept for everything that happens later.
    pub fn attend(self: &Arc<Self>, epoch: u64, cx: &mut Context<'_>) -> Attention {
        {
            let mut outgoing = self.lock();
            let Some(wire) = outgoing.wire_of(epoch) else {
                return Attention::TakenOver;
            };
            if let Some(reason) = wire.closing {
                return Attention::Close(reason);
            }
            match &mut wire.waker {
                Some(waker) => waker.clone_from(cx.waker()),
                None => wire.waker = Some(cx.waker().clone()),
            }
            if !(wire.dirty || wire.blocked) || matches!(wire.output, Output::Writing | Output::Stream) {
                return wire.attention();
            }
            wire.blocked = false;
        }
        self.write(Some(cx));
        match self.lock().wire_of(epoch) {
            Some(wire) => wire.closing.map_or_else(|| wire.attention(), Attention::Close),
            None => Attention::TakenOver,
        }
    }

    /// Whether the connection waits for a commit, so that its task must ask [`SessionSlot::poll_commits`].
    pub(in crate::broker) fn awaits_commit(&self) -> bool {
        self.awaits_commit.load(Ordering::Acquire)
    }

    /// Goes on with the connection of `epoch` as far as what it waits for has been committed. To be called by its task,
    /// after [`SessionSlot::attend`] has kept its waker.
    pub(in crate::broker) fn poll_commits(self: &Arc<Self>, epoch: u64, cx: &mut Context<'_>, turn: &mut Turn<'_>) {
        let mut outgoing = self.lock();
        loop {
            let Some(wire) = outgoing.wire_of(epoch) else {
                return;
            };
            if let Some(ticket) = wire.held {
                if self.journal.poll_once(ticket, &mut wire.woken_for, cx).is_pending() {
                    return;
                }
                wire.held = None;
                wire.touch(self);
            }
            let Some(pending) = &wire.awaited else {
                break;
            };
            match self.journal.ticket_of(pending) {
                Some(ticket) if self.journal.poll_once(ticket, &mut wire.woken_for, cx).is_pending() => return,
                Some(_) => {}
                // Another thread is about to append it: in the midst of its batch, where it waits for nothing.
                None => return cx.waker().wake_by_ref(),
            }
            wire.awaited = None;
            outgoing.pump(self, turn.now, turn.batch);
        }
        self.awaits_commit.store(false, Ordering::Release);
    }

    /// When the connection of `epoch` may send something that waits, where that is only a matter of time. Its task is
    /// woken when that comes sooner than it was.
    pub(in crate::broker) fn due(&self, epoch: u64) -> Option<Millis> {
        self.lock().wire_of(epoch)?.due()
    }

    /// Whether the batch has been appended, and is committed.
    pub(super) fn is_committed(&self, pending: &Pending) -> bool {
        self.journal.ticket_of(pending).is_some_and(|ticket| self.journal.is_committed(ticket))
    }

    /// Writes what the socket of `epoch` takes; ready when nothing waits any more, or never will go.
    pub(in crate::broker) fn poll_flushed(self: &Arc<Self>, epoch: u64, cx: &mut Context<'_>) -> Poll<()> {
        match self.lock().wire_of(epoch) {
            Some(wire) => {
                wire.waker = Some(cx.waker().clone());
                wire.blocked = false;
            }
            None => return Poll::Ready(()),
        }
        self.write(Some(cx));
        match self.lock().wire_of(epoch) {
            Some(wire) if wire.buffered() > 0 || matches!(wire.output, Output::Writing) => {
                wire.wants_room = true;
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }

    /// Takes what the link's task of `epoch` is to write to its stream, if there is anything.
    pub fn take_output(self: &Arc<Self>, epoch: u64, turn: &mut Turn<'_>) -> Option<Outbox> {
        let mut outgoing = self.lock();
        let wire = outgoing.wire_of(epoch)?;
        wire.dirty = false;
        if wire.held.is_some() {
            return None;
        }
        if wire.outbox.is_empty() {
            outgoing.pump(self, turn.now, turn.batch);
        }
        let wire = outgoing.wire_of(epoch)?;
        wire.wants_room = false;
        if wire.outbox.is_empty() {
            return None;
        }
        let (outbox, sent) = wire.take_output();
        self.note_sent(Tally { bytes: outbox.len() as u64, ..sent });
        Some(outbox)
    }

    /// Writes in rounds: take the buffer and the socket, write without the lock, give them back, go on where more came.
    fn write(self: &Arc<Self>, mut cx: Option<&mut Context<'_>>) {
        loop {
            let mut guard = self.lock();
            let epoch = guard.epoch;
            let Attached::Wire(wire) = &mut guard.attached else {
                return;
            };
            wire.dirty = false;
            match wire.output {
                Output::Stream => {
                    wire.dirty = true;
                    return wire.wake();
                }
                Output::Writing => return,
                Output::Socket(_) if wire.blocked || wire.held.is_some() => return,
                Output::Socket(_) => {}
            }
            if wire.outbox.is_empty() {
                guard.pump_alone(self);
                let Attached::Wire(wire) = &mut guard.attached else {
                    return;
                };
                if wire.outbox.is_empty() {
                    return;
                }
            }
            let Attached::Wire(wire) = &mut guard.attached else {
                return;
            };
            let Output::Socket(mut writer) = std::mem::replace(&mut wire.output, Output::Writing) else {
                return;
            };
            let (mut outbox, sent) = wire.take_output();
            wire.taken = outbox.len();
            let version = wire.sender.version();
            drop(guard);

            let result = match &mut cx {
                Some(cx) => match outbox.poll_write(&mut writer, cx) {
                    Poll::Ready(result) => result,
                    Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
                },
                None => outbox.try_write(&writer),
            };
            let written = result.as_ref().map_or(0, |&count| count);
            outbox.advance(written);
            self.note_sent(Tally { bytes: written as u64, ..sent });

            let mut guard = self.lock();
            if guard.epoch != epoch {
                // Taken over meanwhile: nobody else has this socket, and it is closed here.
                drop(guard);
                if outbox.is_empty() && version == Version::V5 {
                    let mut last_words = Vec::new();
                    Disconnect::new(ReasonCode::SessionTakenOver).encode(version, &mut last_words);
                    let _ = writer.try_write(&last_words);
                }
                return;
            }
            let Attached::Wire(wire) = &mut guard.attached else {
                return;
            };
            wire.output = Output::Socket(writer);
            wire.taken = 0;
            match result {
                Ok(0) => return wire.fail(),
                Ok(_) if outbox.is_empty() => {
                    if wire.wants_room {
                        wire.wants_room = false;
                        wire.wake();
                    }
                }
                Ok(_) => wire.give_back(outbox),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    wire.give_back(outbox);
                    wire.blocked = true;
                    if cx.is_none() {
                        wire.wake();
                    }
                    return;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => wire.give_back(outbox),
                Err(_) => return wire.fail(),
            }
        }
    }
}

//! From a stream of bytes to lines, however the bytes are cut into reads. Pure.

/// Cuts lines at CR and LF. Empty lines are none, so that `\r\n`, `\n` and `\r` are all one end.
#[derive(Debug)]
pub struct LineFramer {
    line: Vec<u8>,
    max_line: usize,
    skipping: bool,
    dropped: u64,
}

impl LineFramer {
    /// Lines of at most `max_line` bytes; a longer one is dropped whole.
    pub fn new(max_line: usize) -> Self {
        Self { line: Vec::new(), max_line, skipping: false, dropped: 0 }
    }

    /// Takes `bytes` and hands each line that they complete to `each`.
    pub fn push(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8])) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
            let (part, behind) = (&rest[..end], &rest[end + 1..]);
            self.extend(part);
            // An end clears what stood before it, a line or the rest of one that is skipped.
            if !std::mem::take(&mut self.skipping) && !self.line.is_empty() {
                each(&self.line);
            }
            self.line.clear();
            rest = behind;
        }
        self.extend(rest);
    }

    /// Leaves out what comes up to the next end of a line: after opening a port in the middle of one.
    pub fn skip_line(&mut self) {
        self.line.clear();
        self.skipping = true;
    }

    /// Lines dropped because they were too long.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn extend(&mut self, part: &[u8]) {
        if self.skipping {
            return;
        }
        if self.line.len() + part.len() > self.max_line {
            self.dropped += 1;
            self.skip_line();
        } else {
            self.line.extend_from_slice(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(framer: &mut LineFramer, chunks: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        for chunk in chunks {
            framer.push(chunk, |line| lines.push(line.to_vec()));
        }
        lines
    }

    #[test]
    fn lines_end_at_cr_at_lf_and_at_both() {
        let mut framer = LineFramer::new(16);
        let expected: [&[u8]; 4] = [b"a", b"bc", b"d", b"e"];
        assert_eq!(lines(&mut framer, &[b"a\nb", b"c\r", b"\nd\re\n\n\nf"]), expected);
    }

    #[test]
    fn an_overlong_line_is_dropped_whole_and_the_next_one_is_not() {
        let mut framer = LineFramer::new(4);
        assert_eq!(lines(&mut framer, &[b"1234\n12", b"345", b"678\nab\n12345\n"]), [b"1234".to_vec(), b"ab".to_vec()]);
        assert_eq!(framer.dropped(), 2);
        assert!(framer.line.capacity() <= 8, "the buffer stays within the bound");
    }

    #[test]
    fn the_rest_of_a_line_that_was_cut_off_is_left_out() {
        let mut framer = LineFramer::new(16);
        framer.skip_line();
        assert_eq!(lines(&mut framer, &[b"2.50 kg", b"\n12.50 kg\n"]), [b"12.50 kg".to_vec()]);
        assert_eq!(framer.dropped(), 0);
    }

    proptest! {
        #[test]
        fn arbitrary_chunking_gives_the_same_lines(
            bytes in prop::collection::vec(prop::sample::select(b"ab\r\n\0\xFF".to_vec()), 0..200),
            cuts in prop::collection::vec(1_usize..9, 1..20),
        ) {
            let mut whole = LineFramer::new(5);
            let expected = lines(&mut whole, &[&bytes]);
            let mut chunks = Vec::new();
            let mut rest = &bytes[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (chunk, behind) = rest.split_at((*cut).min(rest.len()));
                chunks.push(chunk);
                rest = behind;
            }
            let mut framer = LineFramer::new(5);
            prop_assert_eq!(lines(&mut framer, &chunks), expected);
            prop_assert_eq!(framer.dropped(), whole.dropped());
        }
    }
}

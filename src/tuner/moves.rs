//! What can be tried, and when it is worth trying again.

/// By how much a setting is multiplied or divided at first, and at last.
const FACTORS: [f64; 2] = [4.0, 2.0];

/// By how much, where it is not known to be safe to go further.
const CAREFUL: f64 = 1.25;

/// Times that a cool-down may double.
const DOUBLINGS_MAX: u32 = 10;

/// Room that is left for noise, and for what bends, in how much the tail is expected to grow.
const MARGIN: f64 = 1.5;

/// Settings that change together, by their places: up, or down. The first one gives its name to what is known
/// of the tail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Move(pub(super) Vec<(usize, bool)>);

impl Move {
    /// Whether any of them goes up.
    fn raises(&self) -> bool {
        self.0.iter().any(|&(_, is_up)| is_up)
    }
}

/// Each by itself, and all of a group in one direction.
fn all_moves(knobs: usize, together: &[Vec<usize>]) -> Vec<Move> {
    let mut moves = Vec::new();
    for place in 0..knobs {
        moves.extend([true, false].map(|is_up| Move(vec![(place, is_up)])));
    }
    for group in together.iter().filter(|group| group.len() > 1) {
        let all = |is_up| Move(group.iter().map(|&place| (place, is_up)).collect());
        moves.extend([true, false].map(all));
    }
    moves
}

/// What is known of a move.
#[derive(Clone, Debug)]
struct Known {
    one: Move,
    /// Place in [`FACTORS`].
    factor: usize,
    failures: u32,
    /// Whether it was tried only as far as was safe without knowing more.
    is_probed: bool,
    /// Not before this window.
    not_before: u64,
    /// What the tail of the latency grows by when the setting does by one, microseconds: a row waits for its
    /// batch, and for those before it. Not known before it was tried with the other settings as they are.
    growth_us: Option<f64>,
}

/// All moves.
#[derive(Clone, Debug)]
pub(super) struct Moves {
    known: Vec<Known>,
    /// Tried first: what helped last, or the one after that which was tried last.
    next: usize,
}

impl Moves {
    pub(super) fn new(knobs: usize, together: &[Vec<usize>]) -> Self {
        let known = all_moves(knobs, together).into_iter().map(|one| Known {
            one,
            factor: 0,
            failures: 0,
            is_probed: false,
            not_before: 0,
            growth_us: None,
        });
        Self { known: known.collect(), next: 0 }
    }

    /// The settings are others now: everything is worth trying.
    pub(super) fn begin_anew(&mut self) {
        for known in &mut self.known {
            (known.factor, known.failures, known.not_before) = (0, 0, 0);
            (known.growth_us, known.is_probed) = (None, false);
        }
    }

    /// The first move whose turn it is of which `make` makes something, by its place.
    pub(super) fn choose<T>(
        &self,
        now: u64,
        make: impl Fn(usize, &Move, f64) -> Option<T>,
    ) -> Option<(usize, T)> {
        let count = self.known.len();
        let turns = (0..count).map(|turn| (self.next + turn) % count);
        let due = turns.filter(|&place| self.known[place].not_before <= now);
        due.filter_map(|place| {
            let known = &self.known[place];
            // A large step that is not safe may be so as a small one.
            let factors = FACTORS[known.factor..].iter().chain([&CAREFUL]);
            let made = factors.filter_map(|&factor| make(place, &known.one, factor)).next();
            made.map(|made| (place, made))
        })
        .next()
    }

    /// The tail of the latency that is to be expected when the move at `place` brings its setting, the first of
    /// several, from one value to another.
    pub(super) fn expected_p99(&self, place: usize, p99_us: f64, (from, to): (i64, i64)) -> f64 {
        let known = &self.known[place];
        // Unless it is known, as much as if the whole of it came from this setting.
        let unknown = if known.one.raises() { p99_us / to_f64(from.max(1)) } else { 0.0 };
        let growth = known.growth_us.unwrap_or(unknown) * to_f64(to - from);
        p99_us + growth.max(0.0) * MARGIN
    }

    /// Whether it is known what the move at `place` makes of the tail.
    pub(super) fn is_tail_known(&self, place: usize) -> bool {
        self.known[place].growth_us.is_some()
    }

    /// What the move at `place` made of the tail.
    pub(super) fn note_p99(&mut self, place: usize, (from, to): (i64, i64), growth_us: f64) {
        self.known[place].growth_us =
            Some(growth_us / to_f64(to - from)).filter(|it| it.is_finite());
    }

    /// It helped, and may do so again; the others may help now.
    pub(super) fn on_success(&mut self, place: usize) {
        let (factor, growth_us) = (self.known[place].factor, self.known[place].growth_us);
        self.begin_anew();
        let known = &mut self.known[place];
        (known.factor, known.growth_us) = (factor, growth_us);
        self.next = place;
    }

    /// It did not help: a smaller step may, and after that it rests.
    pub(super) fn on_failure(
        &mut self,
        place: usize,
        (from, to): (i64, i64),
        now: u64,
        cool_down: u64,
    ) {
        let known = &mut self.known[place];
        let is_careful = to > from && to_f64(to) < to_f64(from) * FACTORS[1];
        if is_careful && !std::mem::replace(&mut known.is_probed, true) {
            // What it does to the tail is known now: perhaps more of it is safe.
            return;
        }
        if known.factor + 1 < FACTORS.len() {
            known.factor += 1;
        } else {
            known.not_before = now + (cool_down << known.failures.min(DOUBLINGS_MAX));
            known.failures += 1;
            // By then the load may be another one, and one tail that was long by chance must not be for ever.
            known.growth_us = None;
        }
        self.next = (place + 1) % self.known.len();
    }

    /// It could not be tried.
    pub(super) fn put_off(&mut self, place: usize, now: u64, cool_down: u64) {
        self.known[place].not_before = now + cool_down;
        self.next = (place + 1) % self.known.len();
    }
}

#[expect(clippy::cast_precision_loss, reason = "settings are far smaller")]
const fn to_f64(value: i64) -> f64 {
    value as f64
}

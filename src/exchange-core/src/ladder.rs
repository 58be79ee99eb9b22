//! Orders of many books by price, then time, without a word about what an order is.
//!
//! A `Pool` keeps the orders and price levels of all books together, so that one order costs one slot and no
//! allocation. A `Half` is one side of one book: its levels sorted by a key that grows towards the best price. Slots
//! are plain numbers, valid until the order is removed.

/// No slot.
pub const NONE: u32 = u32::MAX;

/// Levels in a chunk before it is split. Chosen by `bench-core`: 64 and 256 were slower on deep books.
const CHUNK_LEVELS_MAX: usize = 128;

/// An order in its place, and what its owner keeps with it.
#[derive(Clone, Copy, Debug)]
pub struct Node<T> {
    prev: u32,
    next: u32,
    level: u32,
    /// Whose it is; means nothing here.
    pub owner: u32,
    open: u64,
    /// What the owner of the pool keeps with an order.
    pub value: T,
}

impl<T> Node<T> {
    /// Return what is open of the order, in lots.
    #[inline]
    #[must_use]
    pub fn open(&self) -> u64 {
        self.open
    }
}

/// All orders of one side of one book at one price, oldest first.
#[derive(Clone, Copy, Debug)]
pub struct Level {
    key: i64,
    lots: u64,
    head: u32,
    tail: u32,
    orders: u32,
    tag: u32,
}

impl Level {
    /// Return the key that the level is sorted by.
    #[inline]
    #[must_use]
    pub fn key(&self) -> i64 {
        self.key
    }

    /// Return what is open at this price, in lots.
    #[must_use]
    pub fn lots(&self) -> u64 {
        self.lots
    }

    /// Return what the caller of `Pool::push` said that the level belongs to.
    #[inline]
    #[must_use]
    pub fn tag(&self) -> u32 {
        self.tag
    }
}

/// Some levels that stand together, ascending by key. Keys stand apart from what they lead to, so that a search touches
/// few cache lines.
#[derive(Clone, Debug, Default)]
struct Chunk {
    keys: Vec<i64>,
    levels: Vec<u32>,
}

/// One side of a book: its levels in chunks, ascending by key; the best level is the last of the last chunk.
///
/// Memory follows the number of levels, never their distance. A level is found by two binary searches; new levels near
/// the best price, which is where most are made, move few others.
#[derive(Clone, Debug)]
pub struct Half {
    chunks: Vec<Chunk>,
    /// First key of each chunk.
    firsts: Vec<i64>,
    best: u32,
}

impl Default for Half {
    fn default() -> Self {
        Self::new()
    }
}

impl Half {
    /// Return a side without orders.
    #[must_use]
    pub fn new() -> Self {
        Self { chunks: Vec::new(), firsts: Vec::new(), best: NONE }
    }

    /// Return the number of levels.
    #[must_use]
    pub fn levels(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.keys.len()).sum()
    }

    /// Return the chunk that has a key, or would have it.
    #[inline]
    fn chunk_of(&self, key: i64) -> usize {
        match self.firsts.last() {
            // Most of what happens, happens near the best price.
            Some(&first) if key >= first => self.firsts.len() - 1,
            _ => self.firsts.partition_point(|&first| first <= key).saturating_sub(1),
        }
    }

    /// Return the level of a key, or where one would stand: chunk and place in it.
    #[inline]
    fn find(&self, key: i64) -> Result<u32, (usize, usize)> {
        let at = self.chunk_of(key);
        let Some(chunk) = self.chunks.get(at) else { return Err((0, 0)) };
        let place = chunk.keys.partition_point(|&other| other < key);
        match chunk.keys.get(place) {
            Some(&other) if other == key => Ok(chunk.levels[place]),
            _ => Err((at, place)),
        }
    }

    fn insert(&mut self, (at, place): (usize, usize), key: i64, level: u32) {
        if self.chunks.is_empty() {
            self.chunks.push(Chunk::default());
            self.firsts.push(key);
        }
        let (mut at, mut place) = (at, place);
        if self.chunks[at].keys.len() == CHUNK_LEVELS_MAX {
            let half = CHUNK_LEVELS_MAX / 2;
            let chunk = &mut self.chunks[at];
            let upper = Chunk { keys: chunk.keys.split_off(half), levels: chunk.levels.split_off(half) };
            self.firsts.insert(at + 1, upper.keys[0]);
            self.chunks.insert(at + 1, upper);
            if place > half {
                (at, place) = (at + 1, place - half);
            }
        }
        let chunk = &mut self.chunks[at];
        chunk.keys.insert(place, key);
        chunk.levels.insert(place, level);
        self.firsts[at] = chunk.keys[0];
        self.find_best();
    }

    fn delete(&mut self, key: i64) {
        let at = self.chunk_of(key);
        let chunk = &mut self.chunks[at];
        let place = chunk.keys.partition_point(|&other| other < key);
        debug_assert_eq!(chunk.keys[place], key);
        chunk.keys.remove(place);
        chunk.levels.remove(place);
        match chunk.keys.first() {
            Some(&first) => self.firsts[at] = first,
            None => self.drop_chunk(at),
        }
        self.find_best();
    }

    /// Take the best level away.
    fn delete_best(&mut self) {
        if let Some(chunk) = self.chunks.last_mut() {
            chunk.keys.pop();
            chunk.levels.pop();
            if chunk.keys.is_empty() {
                self.drop_chunk(self.chunks.len() - 1);
            }
        }
        self.find_best();
    }

    /// Take an empty chunk away; the last one stays, so that a book that empties and fills again allocates nothing.
    fn drop_chunk(&mut self, at: usize) {
        if self.chunks.len() > 1 {
            self.chunks.remove(at);
            self.firsts.remove(at);
        } else {
            self.firsts[at] = i64::MIN;
        }
    }

    #[inline]
    fn find_best(&mut self) {
        self.best = self.chunks.last().and_then(|chunk| chunk.levels.last()).copied().unwrap_or(NONE);
    }

    /// Yield the slots of the levels, best first.
    pub fn best_first(&self) -> impl Iterator<Item = u32> + '_ {
        self.chunks.iter().rev().flat_map(|chunk| chunk.levels.iter().rev().copied())
    }
}

/// The orders and levels of any number of books.
#[derive(Clone, Debug)]
pub struct Pool<T> {
    nodes: Vec<Node<T>>,
    free_node: u32,
    live: usize,
    levels: Vec<Level>,
    free_level: u32,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self { nodes: Vec::new(), free_node: NONE, live: 0, levels: Vec::new(), free_level: NONE }
    }
}

impl<T: Copy> Pool<T> {
    /// Return a pool with room for some orders.
    #[must_use]
    pub fn with_capacity(orders: usize) -> Self {
        Self { nodes: Vec::with_capacity(orders), ..Self::default() }
    }

    /// Return how many orders there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.live
    }

    /// Return whether there is no order.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Return the order in a slot.
    #[inline]
    #[must_use]
    pub fn node(&self, slot: u32) -> &Node<T> {
        &self.nodes[slot as usize]
    }

    /// Return what is kept with the order in a slot, to be changed.
    #[inline]
    pub fn value_mut(&mut self, slot: u32) -> &mut T {
        &mut self.nodes[slot as usize].value
    }

    /// Return the level that an order stands in.
    #[inline]
    #[must_use]
    pub fn level_of(&self, slot: u32) -> &Level {
        &self.levels[self.nodes[slot as usize].level as usize]
    }

    /// Return a level by the slot that `Half::best_first` yields.
    #[inline]
    #[must_use]
    pub fn level(&self, level: u32) -> &Level {
        &self.levels[level as usize]
    }

    /// Return the best level of a side.
    #[inline]
    #[must_use]
    pub fn best(&self, half: &Half) -> Option<&Level> {
        (half.best != NONE).then(|| &self.levels[half.best as usize])
    }

    /// Return the order that trades next: the oldest one of the best level.
    #[inline]
    #[must_use]
    pub fn first(&self, half: &Half) -> Option<u32> {
        self.best(half).map(|level| level.head)
    }

    /// Return what is open at one key of a side, in lots.
    #[must_use]
    pub fn lots_at(&self, half: &Half, key: i64) -> u64 {
        half.find(key).map_or(0, |level| self.levels[level as usize].lots)
    }

    /// Put an order behind all others of its key; `tag` is kept with a level that this makes. Return its slot.
    ///
    /// The lots that are open at one key must stay below 2^64, and there is room for 2^32 - 1 orders.
    #[inline]
    pub fn push(&mut self, half: &mut Half, key: i64, tag: u32, owner: u32, open: u64, value: T) -> u32 {
        let level = match half.best {
            best if best != NONE && self.levels[best as usize].key == key => best,
            _ => self.find_or_make(half, key, tag),
        };
        let tail = self.levels[level as usize].tail;
        let node = Node { prev: tail, next: NONE, level, owner, open, value };
        let slot = if self.free_node == NONE {
            self.nodes.push(node);
            u32::try_from(self.nodes.len() - 1).expect("fewer than 2^32 orders")
        } else {
            let slot = self.free_node;
            let free = &mut self.nodes[slot as usize];
            self.free_node = free.next;
            *free = node;
            slot
        };
        let there = &mut self.levels[level as usize];
        there.lots = there.lots.wrapping_add(open);
        there.orders += 1;
        there.tail = slot;
        if tail == NONE {
            there.head = slot;
        } else {
            self.nodes[tail as usize].next = slot;
        }
        self.live += 1;
        slot
    }

    fn find_or_make(&mut self, half: &mut Half, key: i64, tag: u32) -> u32 {
        let place = match half.find(key) {
            Ok(level) => return level,
            Err(place) => place,
        };
        let made = Level { key, lots: 0, head: NONE, tail: NONE, orders: 0, tag };
        let level = if self.free_level == NONE {
            self.levels.push(made);
            u32::try_from(self.levels.len() - 1).expect("fewer than 2^32 levels")
        } else {
            let level = self.free_level;
            self.free_level = self.levels[level as usize].head;
            self.levels[level as usize] = made;
            level
        };
        half.insert(place, key, level);
        level
    }

    /// Take an order out of the side that it stands in and return it; its slot is free for another.
    #[inline]
    pub fn remove(&mut self, half: &mut Half, slot: u32) -> Node<T> {
        let node = self.nodes[slot as usize];
        let level = &mut self.levels[node.level as usize];
        level.lots = level.lots.wrapping_sub(node.open);
        level.orders -= 1;
        if level.orders == 0 {
            level.head = self.free_level;
            self.free_level = node.level;
            if half.best == node.level {
                half.delete_best();
            } else {
                half.delete(level.key);
            }
        } else {
            if node.prev == NONE {
                level.head = node.next;
            } else {
                self.nodes[node.prev as usize].next = node.next;
            }
            if node.next == NONE {
                self.levels[node.level as usize].tail = node.prev;
            } else {
                self.nodes[node.next as usize].prev = node.prev;
            }
        }
        self.nodes[slot as usize].next = self.free_node;
        self.free_node = slot;
        self.live -= 1;
        node
    }

    /// Take lots off an order, fewer than are open; it keeps its place.
    #[inline]
    pub fn shrink(&mut self, slot: u32, lots: u64) {
        let node = &mut self.nodes[slot as usize];
        debug_assert!(lots < node.open);
        node.open -= lots;
        let level = &mut self.levels[node.level as usize];
        level.lots = level.lots.wrapping_sub(lots);
    }

    /// Return the order that trades after this one at the same price; None: it is the last there.
    #[inline]
    #[must_use]
    pub fn next_at_level(&self, slot: u32) -> Option<u32> {
        let next = self.nodes[slot as usize].next;
        (next != NONE).then_some(next)
    }

    /// Yield the orders of a side in the order in which they trade.
    pub fn orders<'a>(&'a self, half: &'a Half) -> impl Iterator<Item = u32> + 'a {
        half.best_first().flat_map(move |level| {
            std::iter::successors(Some(self.levels[level as usize].head), move |slot| self.next_at_level(*slot))
        })
    }

    /// Return how many orders a side has.
    #[must_use]
    pub fn count(&self, half: &Half) -> u64 {
        half.best_first().map(|level| u64::from(self.levels[level as usize].orders)).sum()
    }
}

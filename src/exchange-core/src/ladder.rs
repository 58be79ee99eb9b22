//! Orders of many books by price, then time, without a word about what an order is.
//!
//! A `Pool` keeps the orders and price levels of all books together, so that one order costs one slot and no
//! allocation. A `Half` is one side of one book: its levels sorted by a key that grows towards the best price. Slots
//! are plain numbers, valid until the order is removed.

/// No slot.
pub const NONE: u32 = u32::MAX;

/// Levels in a chunk before it is split. Chosen by `bench-core`: 64 and 256 were slower on deep books.
const CHUNK_LEN_MAX: usize = 128;

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
    page: u32,
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

/// Ticks that a page has levels for, as a power of two: their slots fill a cache line.
const PAGE_SHIFT: u32 = 4;
const PAGE_TICKS: usize = 1 << PAGE_SHIFT;

/// The levels of neighbouring keys, by the low bits of the key; NONE where there is none. In a free page, the first is
/// the next free page.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Page([u32; PAGE_TICKS]);

impl Page {
    const EMPTY: Self = Self([NONE; PAGE_TICKS]);

    /// Return a bit for every level that there is.
    #[inline]
    fn used(&self) -> u32 {
        self.0.iter().enumerate().fold(0, |used, (place, &level)| used | u32::from(level != NONE) << place)
    }

    /// Return the highest level of those that have a bit.
    #[inline]
    fn highest(&self, used: u32) -> Option<u32> {
        used.checked_ilog2().map(|place| self.0[place as usize % PAGE_TICKS])
    }
}

#[inline]
fn page_key(key: i64) -> i64 {
    key >> PAGE_SHIFT
}

#[inline]
fn place_in_page(key: i64) -> usize {
    usize::from(key.to_le_bytes()[0]) % PAGE_TICKS
}

/// Marks an entry that leads to a level, the only one of its page's keys, and not to a page.
const LONE: u32 = 1 << 31;

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Key of the page.
    key: i64,
    /// The page, or the only level that it would have.
    to: u32,
}

/// One side of a book: its pages of levels in chunks, ascending by key; the best level is the highest of the last page.
///
/// Memory follows the number of levels, never their distance: levels that stand close together share a page, so that a
/// search is over few, and one that stands alone has none. The last chunk is kept apart: a small book has no other, and
/// is found with two steps less.
#[derive(Clone, Debug)]
pub struct Half {
    last: Vec<Entry>,
    best: u32,
    lower: Vec<Vec<Entry>>,
    /// First key of each of the lower chunks.
    firsts: Vec<i64>,
    orders: u64,
}

/// Where a page stands, or would: a lower chunk or the last one, and the place in it.
type Place = (Option<usize>, usize);

impl Default for Half {
    fn default() -> Self {
        Self::new()
    }
}

impl Half {
    /// Return how many orders there are.
    #[must_use]
    pub fn orders(&self) -> u64 {
        self.orders
    }

    /// Return a side without orders.
    #[must_use]
    pub fn new() -> Self {
        Self { last: Vec::new(), best: NONE, lower: Vec::new(), firsts: Vec::new(), orders: 0 }
    }

    /// Return where the page of a key stands, or would.
    #[inline]
    fn find(&self, key: i64) -> Result<Place, Place> {
        let key = page_key(key);
        let (at, chunk) = self.chunk_of(key);
        let place = chunk.partition_point(|entry| entry.key < key);
        if chunk.get(place).is_some_and(|entry| entry.key == key) { Ok((at, place)) } else { Err((at, place)) }
    }

    #[inline]
    fn to_mut(&mut self, (at, place): Place) -> &mut u32 {
        match at {
            None => &mut self.last[place].to,
            Some(at) => &mut self.lower[at][place].to,
        }
    }

    #[inline]
    fn to(&self, (at, place): Place) -> u32 {
        match at {
            None => self.last[place].to,
            Some(at) => self.lower[at][place].to,
        }
    }

    #[inline]
    fn chunk_of(&self, key: i64) -> (Option<usize>, &Vec<Entry>) {
        if self.lower.is_empty() || self.last.first().is_some_and(|first| key >= first.key) {
            return (None, &self.last);
        }
        let at = self.firsts.partition_point(|&first| first <= key).saturating_sub(1);
        (Some(at), &self.lower[at])
    }

    fn insert(&mut self, (at, place): Place, entry: Entry) {
        match at {
            None => {
                if self.last.len() == CHUNK_LEN_MAX {
                    return self.split_last(place, entry);
                }
                self.last.insert(place, entry);
            }
            Some(at) => {
                let (mut at, mut place) = (at, place);
                if self.lower[at].len() == CHUNK_LEN_MAX {
                    let upper = self.lower[at].split_off(CHUNK_LEN_MAX / 2);
                    self.firsts.insert(at + 1, upper[0].key);
                    self.lower.insert(at + 1, upper);
                    if place > CHUNK_LEN_MAX / 2 {
                        (at, place) = (at + 1, place - CHUNK_LEN_MAX / 2);
                    }
                }
                self.lower[at].insert(place, entry);
                self.firsts[at] = self.lower[at][0].key;
            }
        }
    }

    #[cold]
    fn split_last(&mut self, place: usize, entry: Entry) {
        let upper = self.last.split_off(CHUNK_LEN_MAX / 2);
        let mut lower = std::mem::replace(&mut self.last, upper);
        if place > lower.len() {
            let place = place - lower.len();
            self.last.insert(place, entry);
        } else {
            lower.insert(place, entry);
        }
        self.firsts.push(lower[0].key);
        self.lower.push(lower);
    }

    /// Take the entry of a key away.
    fn delete(&mut self, key: i64) {
        let key = page_key(key);
        let (at, chunk) = self.chunk_of(key);
        let place = chunk.partition_point(|entry| entry.key < key);
        debug_assert_eq!(chunk[place].key, key);
        match at {
            None => {
                self.last.remove(place);
                self.refill_last();
            }
            Some(at) => {
                self.lower[at].remove(place);
                if let Some(first) = self.lower[at].first() {
                    self.firsts[at] = first.key;
                } else {
                    self.lower.remove(at);
                    self.firsts.remove(at);
                }
            }
        }
    }

    /// Take the last entry away.
    #[inline]
    fn delete_last(&mut self) {
        self.last.pop();
        self.refill_last();
    }

    /// Let the chunk below become the last one when that is empty.
    #[inline]
    fn refill_last(&mut self) {
        if self.last.is_empty()
            && let Some(chunk) = self.lower.pop()
        {
            self.firsts.pop();
            self.last = chunk;
        }
    }

    /// Yield what the entries lead to, best first.
    fn best_first(&self) -> impl Iterator<Item = u32> + '_ {
        let chunks = std::iter::once(&self.last).chain(self.lower.iter().rev());
        chunks.flat_map(|chunk| chunk.iter().rev().map(|entry| entry.to))
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
    pages: Vec<Page>,
    free_page: u32,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self {
            nodes: Vec::new(),
            free_node: NONE,
            live: 0,
            levels: Vec::new(),
            free_level: NONE,
            pages: Vec::new(),
            free_page: NONE,
        }
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

    /// Return a level by the slot that `best_first` yields.
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
        half.find(key).map_or(0, |place| match self.level_at(half.to(place), key) {
            NONE => 0,
            level => self.levels[level as usize].lots,
        })
    }

    /// Put an order behind all others of its key; `tag` is kept with a level that this makes. Return its slot.
    ///
    /// The lots that are open at one key must stay below 2^64.
    ///
    /// # Panics
    /// There are 2^32 - 1 orders or levels already.
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
        there.tail = slot;
        if tail == NONE {
            there.head = slot;
        } else {
            self.nodes[tail as usize].next = slot;
        }
        half.orders += 1;
        self.live += 1;
        slot
    }

    /// Return the level of a key among those that an entry leads to; NONE: there is none.
    #[inline]
    fn level_at(&self, to: u32, key: i64) -> u32 {
        if to & LONE == 0 {
            self.pages[to as usize].0[place_in_page(key)]
        } else if self.levels[(to & !LONE) as usize].key == key {
            to & !LONE
        } else {
            NONE
        }
    }

    fn find_or_make(&mut self, half: &mut Half, key: i64, tag: u32) -> u32 {
        let place = match half.find(key) {
            Ok(place) => place,
            Err(place) => {
                let level = self.make_level(half, key, NONE, tag);
                half.insert(place, Entry { key: page_key(key), to: level | LONE });
                return level;
            }
        };
        let to = half.to(place);
        match self.level_at(to, key) {
            NONE if to & LONE == 0 => self.make_level(half, key, to, tag),
            NONE => {
                let page = self.make_page(to & !LONE);
                *half.to_mut(place) = page;
                self.make_level(half, key, page, tag)
            }
            level => level,
        }
    }

    /// Return a page for a level that was alone.
    fn make_page(&mut self, lone: u32) -> u32 {
        let page = if self.free_page == NONE {
            self.pages.push(Page::EMPTY);
            u32::try_from(self.pages.len() - 1).expect("fewer pages than levels")
        } else {
            let page = self.free_page;
            self.free_page = self.pages[page as usize].0[0];
            self.pages[page as usize] = Page::EMPTY;
            page
        };
        let level = &mut self.levels[lone as usize];
        level.page = page;
        self.pages[page as usize].0[place_in_page(level.key)] = lone;
        page
    }

    fn make_level(&mut self, half: &mut Half, key: i64, page: u32, tag: u32) -> u32 {
        let made = Level { key, lots: 0, head: NONE, tail: NONE, page, tag };
        let level = if self.free_level == NONE {
            self.levels.push(made);
            u32::try_from(self.levels.len() - 1).ok().filter(|level| level & LONE == 0).expect("fewer than 2^31 levels")
        } else {
            let level = self.free_level;
            self.free_level = self.levels[level as usize].head;
            self.levels[level as usize] = made;
            level
        };
        if page != NONE {
            self.pages[page as usize].0[place_in_page(key)] = level;
        }
        if half.best == NONE || self.levels[half.best as usize].key < key {
            half.best = level;
        }
        level
    }

    /// Take a level away that has no orders any more.
    #[inline]
    fn delete_level(&mut self, half: &mut Half, level: u32) {
        let there = &mut self.levels[level as usize];
        let (key, page) = (there.key, there.page);
        there.head = self.free_level;
        self.free_level = level;
        let is_best = half.best == level;
        if page != NONE {
            let levels = &mut self.pages[page as usize];
            levels.0[place_in_page(key)] = NONE;
            if let Some(next) = levels.highest(levels.used()) {
                // The best level is the highest of the last page: the next one stands in the same page, if any does.
                if is_best {
                    half.best = next;
                }
                return;
            }
            levels.0[0] = self.free_page;
            self.free_page = page;
        }
        if is_best {
            half.delete_last();
            half.best = half.last.last().map_or(NONE, |entry| match entry.to & LONE {
                0 => {
                    let page = &self.pages[entry.to as usize];
                    page.highest(page.used()).unwrap_or(NONE)
                }
                _ => entry.to & !LONE,
            });
        } else {
            half.delete(key);
        }
    }

    /// Take an order out of the side that it stands in and return it; its slot is free for another.
    #[inline]
    pub fn remove(&mut self, half: &mut Half, slot: u32) -> Node<T> {
        let node = self.nodes[slot as usize];
        let level = &mut self.levels[node.level as usize];
        level.lots = level.lots.wrapping_sub(node.open);
        if node.prev == NONE && node.next == NONE {
            self.delete_level(half, node.level);
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
        half.orders -= 1;
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

    /// Yield the slots of the levels of a side, best first.
    pub fn best_first<'a>(&'a self, half: &'a Half) -> impl Iterator<Item = u32> + 'a {
        half.best_first().flat_map(move |to| {
            let mut levels = Page::EMPTY.0;
            if to & LONE == 0 {
                levels = self.pages[to as usize].0;
            } else {
                levels[0] = to & !LONE;
            }
            levels.into_iter().rev().filter(|&level| level != NONE)
        })
    }

    /// Yield the orders of a side in the order in which they trade.
    pub fn orders<'a>(&'a self, half: &'a Half) -> impl Iterator<Item = u32> + 'a {
        self.best_first(half).flat_map(move |level| {
            std::iter::successors(Some(self.levels[level as usize].head), move |slot| self.next_at_level(*slot))
        })
    }
}

//! Large lists and buffers that are needed for a moment: their memory goes back to the system.

/// glibc's allocator maps what is larger than this by itself, whatever else happened, and unmaps it
/// once it is freed. Of something smaller it learns (`M_MMAP_THRESHOLD` in mallopt(3)): the next of
/// its size comes from the heap, which from then on keeps up to twice as much that is free.
const ALWAYS_MAPPED: usize = 32 * 1024 * 1024;

/// Bytes below which a list is like any other.
const SMALL: usize = 128 * 1024;

/// An empty list with room for so many. Where they are many it has room for more, of which only
/// what is used takes memory; where a limit on addresses has none for that, it has what is needed.
pub(crate) fn list<T>(room: usize) -> Vec<T> {
    let (mut list, size) = (Vec::new(), size_of::<T>().max(1));
    let is_small = room.saturating_mul(size) < SMALL;
    if is_small || list.try_reserve_exact(room.max(ALWAYS_MAPPED / size + 1)).is_err() {
        list.reserve_exact(room);
    }
    list
}

/// An empty text with room for so many bytes, as [`list`].
pub(crate) fn text(room: usize) -> String {
    String::from_utf8(list(room)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_large_is_mapped_by_itself_and_what_is_small_is_as_asked_for() {
        assert_eq!(list::<u64>(0).capacity(), 0);
        assert!((10..SMALL / 8).contains(&list::<u64>(10).capacity()));
        for room in [SMALL / 8, 100_000, ALWAYS_MAPPED] {
            let list = list::<u64>(room);
            assert!(list.is_empty() && list.capacity() >= room && 8 * list.capacity() > ALWAYS_MAPPED);
            assert!(text(room).is_empty() && text(room).capacity() == super::list::<u8>(room).capacity());
        }
    }
}

#![doc = include_str!("guide/rustdoc.md")]
#![doc = include_str!("guide/index.md")]

// One text, read in three places: here, where the listings are tested; as pages of the repository; and as a book that
// mdBook builds (`mdbook build src/guide`). Nothing is generated for the second and the third. A chapter therefore never
// writes an address in the middle of its text: it writes `[chapter 10][ch10]` and `![What it shows][two-lists]`, and
// defines both at its end as paths between files. Here those files have become modules, so other definitions come
// first, and in Markdown the first definition of a name counts:
//
// * `guide/rustdoc.md`, the same for all chapters: a module for each file, an item for each `[crate::…]`;
// * `guide/pictures/rustdoc/CHAPTER.md`: each picture as an address that contains it, because rustdoc copies no files.
//   `bash .ci/book --pictures` writes these.
//
// A chapter is laid out like this, and `bash .ci/book` checks what can be checked:
//
//     # 4. epoll                         number and title
//     *Which list …?*                    the question that the chapter answers, then the answer in a paragraph
//     *Workshop: steps 1 to 4.*          the steps of the workshop that send the reader here, if any do
//     # A section …                      two pictures at least, each drawn for one question; listings are whole programs
//                                        without hidden lines; what one prints follows in a block marked `text`
//     # Challenges                       **Try it.** a change to a listing, and what to look for
//                                        **Think.** a question without a computer; both are answered in answers.md
//     ---
//     Back: [kqueue][ch05] · Next: [AFD][ch07]
//     [ch05]: ch05_kqueue.md             the definitions, and nothing after them

// The chapters about one system consist of programs for that system: their listings are tested there, and by
// `bash .ci/listings`, which also runs them elsewhere. (A block's `ignore-linux` says the same since Rust 1.88 only.)

macro_rules! chapters {
    ($($(#[$system:meta])* $name:ident)*) => {$(
        $(#[$system])*
        pub mod $name {
            #![doc = include_str!("guide/rustdoc.md")]
            #![doc = include_str!(concat!("guide/pictures/rustdoc/", stringify!($name), ".md"))]
            #![doc = include_str!(concat!("guide/", stringify!($name), ".md"))]
        }
    )*};
}

chapters! {
    ch01_threads
    ch02_system_calls
    ch03_readiness_completion
    #[cfg(any(not(doctest), target_os = "linux", target_os = "android"))]
    ch04_epoll
    #[cfg(any(not(doctest), not(any(target_os = "linux", target_os = "android", windows))))]
    ch05_kqueue
    #[cfg(any(not(doctest), windows))]
    ch06_iocp
    #[cfg(any(not(doctest), windows))]
    ch07_afd
    ch08_one_api
    ch09_modes
    ch10_threads
    ch11_hard_parts
    ch12_reactor_executor
    ch13_async_await
    ch14_wire
    ch15_mio
    ch16_io_uring
    traps_epoll
    traps_kqueue
    traps_windows
    glossary
    answers
}

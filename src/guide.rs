#![doc = include_str!("guide/index.md")]

pub mod ch01_threads {
    #![doc = include_str!("guide/ch01_threads.md")]
}

pub mod ch02_system_calls {
    #![doc = include_str!("guide/ch02_system_calls.md")]
}

pub mod ch03_readiness_completion {
    #![doc = include_str!("guide/ch03_readiness_completion.md")]
}

pub mod ch04_epoll {
    #![doc = include_str!("guide/ch04_epoll.md")]
}

pub mod ch05_kqueue {
    #![doc = include_str!("guide/ch05_kqueue.md")]
}

pub mod ch06_iocp {
    #![doc = include_str!("guide/ch06_iocp.md")]
}

pub mod ch07_afd {
    #![doc = include_str!("guide/ch07_afd.md")]
}

pub mod ch08_one_api {
    #![doc = include_str!("guide/ch08_one_api.md")]
}

pub mod ch09_modes {
    #![doc = include_str!("guide/ch09_modes.md")]
}

pub mod ch10_threads {
    #![doc = include_str!("guide/ch10_threads.md")]
}

pub mod ch11_hard_parts {
    #![doc = include_str!("guide/ch11_hard_parts.md")]
}

pub mod ch12_reactor_executor {
    #![doc = include_str!("guide/ch12_reactor_executor.md")]
}

pub mod ch13_async_await {
    #![doc = include_str!("guide/ch13_async_await.md")]
}

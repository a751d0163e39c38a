//! Both ends of a stream in one process, on two networks that are joined by their gateways.

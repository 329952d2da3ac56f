// Package saasstub is a paid sandbox service that costs nothing: it keeps names, lifetimes, metadata and a meter in memory
// and runs no code. It is for trying out and testing what surrounds a sandbox (quotes, budgets, burst, metering, native
// lifetimes, keys of one's own) without an account.
//
//	reg, err := registry.New(registry.WithAdapters(saasstub.Adapter()))
//
// It prices by [PriceList] and never bills anybody. Its sandboxes have no inside: no commands, no files, no ports. A
// snapshot holds the metadata of its sandbox, and that is what a restore brings back. It declares the isolation level
// microvm because that is what such services sell; as nothing runs in it, it is no statement about separation.
//
// What exists lives in a [Service] and ends with the process.
package saasstub

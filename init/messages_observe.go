package main

// Operations from the front to the gateway. Neither has a request body; the
// answer is a sealed memory file.
const (
	opMetrics = "metrics"
	opTraces  = "traces"
)

// observeReply answers both; the file is beside it.
type observeReply struct{}

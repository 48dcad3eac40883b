package queue

import (
	"fmt"
	"strings"
)

// kind is what sort of thing is waited for.
type kind int

const (
	onAnything   kind = iota // what it is the error tells
	onNothing                // a loop that says itself what it waits for
	onConnection             // to any server
	onJetStream              // on the server or for the account
	onStream
	onConsumer
	onRoom // in a stream
)

// awaited is a thing on the servers.
type awaited struct {
	kind   kind
	stream string
	page   string // of a consumer
	lane   Lane
	proves bool // who succeeds has written: others can too
}

var (
	theConnection = awaited{kind: onConnection}
	theJetStream  = awaited{kind: onJetStream}
	roomForJobs   = awaited{kind: onRoom, stream: StreamJobs}
)

func writesTo(stream string) awaited { return awaited{kind: onStream, stream: stream, proves: true} }
func readsOf(stream string) awaited  { return awaited{kind: onStream, stream: stream} }

func consumerOf(page string, lane Lane) awaited {
	return awaited{kind: onConsumer, stream: StreamJobs, page: page, lane: lane}
}

// key is the same for all who wait for the same thing.
func (a awaited) key() awaited {
	a.proves = false
	return a
}

func (a awaited) String() string {
	switch a.kind {
	case onConnection:
		return "connection to NATS"
	case onJetStream:
		return "JetStream"
	case onStream:
		if bucket, ok := strings.CutPrefix(a.stream, streamOf("")); ok {
			return "bucket " + bucket
		}
		return "stream " + a.stream
	case onConsumer:
		return fmt.Sprintf("consumer of page %s, lane %s", a.page, a.lane)
	case onRoom:
		return "room in stream " + a.stream
	}
	return "NATS"
}

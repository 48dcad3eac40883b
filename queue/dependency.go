package queue

import (
	"fmt"
	"strings"
)

// kind is the kind of a dependency.
type kind int

const (
	onAnything   kind = iota // the error tells what
	onNothing                // of a loop that notes its own waits
	onConnection             // to any server
	onJetStream              // on the server or for the account
	onStream
	onConsumer
	onSpace // in a stream
)

// dependency is something on the servers that a request needs.
type dependency struct {
	kind   kind
	stream string
	page   string // of a consumer
	lane   Lane
	proves bool // a success is a write, and proves that others can write too
}

var (
	theConnection = dependency{kind: onConnection}
	theJetStream  = dependency{kind: onJetStream}
)

func writesTo(stream string) dependency {
	return dependency{kind: onStream, stream: stream, proves: true}
}
func readsOf(stream string) dependency { return dependency{kind: onStream, stream: stream} }

func spaceIn(stream string) dependency { return dependency{kind: onSpace, stream: stream} }

func consumerOf(stream, page string, lane Lane) dependency {
	return dependency{kind: onConsumer, stream: stream, page: page, lane: lane}
}

// key is the same for all that wait for the same dependency.
func (a dependency) key() dependency {
	a.proves = false
	return a
}

func (a dependency) String() string {
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
		if _, number := partitionOfStream(a.stream); number > 1 {
			return fmt.Sprintf("consumer of page %s, lane %s, in %s", a.page, a.lane, a.stream)
		}
		return fmt.Sprintf("consumer of page %s, lane %s", a.page, a.lane)
	case onSpace:
		return "space in stream " + a.stream
	}
	return "NATS"
}

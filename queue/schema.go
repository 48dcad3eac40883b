package queue

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// schema is the number of the layout. Raise it with every change of a stream: testdata has the layout of each schema. A
	// stream that is added, and that the version before does not need, raises nothing, so that the version before still starts.
	schema = 2
	// schemaOfPartitions is that of BRAZIER_JOBS where there are several partitions, so that a version that does not know of them
	// does not start. The next change of the layout is schema 4.
	schemaOfPartitions = 3
	// schemaKey is the key of the schema in the metadata of a stream. Keys that begin with _nats. are the server's.
	schemaKey = "brazier.schema"
)

// errNoSchema says that the stream was not made by a released version.
var errNoSchema = errors.New("no schema")

// schemaOf returns the schema of a stream that was found, if it is one that this process knows. The caller deals with
// errNoSchema.
func schemaOf(plan, found *jetstream.StreamConfig) (int, error) {
	value, ok := found.Metadata[schemaKey]
	if !ok {
		return 0, errNoSchema
	}
	known, _ := strconv.Atoi(plan.Metadata[schemaKey])
	number, err := strconv.Atoi(value)
	switch {
	case err != nil || number < 1:
		return 0, &StreamError{plan.Name, fmt.Sprintf("its metadata has %q under %s, which must be a positive number", value, schemaKey),
			fmt.Sprintf("set it to the number with which the stream was made, or run `brazier setup` once it is empty and has no %s", schemaKey)}
	case number > known:
		return 0, newerError{&StreamError{plan.Name, fmt.Sprintf("it has schema %d, and this version of Brazier knows schema %d", number, known),
			"run the version that made it, or a newer one"}}
	}
	return number, nil
}

// unknownOrigin is the error for a stream without a schema.
func unknownOrigin(stream string, messages uint64) error {
	if messages == 0 {
		return &StreamError{stream, fmt.Sprintf("its metadata has no %s, so Brazier did not make it", schemaKey),
			"run `brazier setup` with an operator's rights, which takes it over since it is empty"}
	}
	return &StreamError{stream, fmt.Sprintf("its metadata has no %s, so it was made by hand or by a version before the first release, and it holds %d messages "+
		"whose form is not known", schemaKey, messages),
		"let the program that made it deliver them, or remove it (nats stream rm), and run `brazier setup`"}
}

// newerError says that a newer version made the stream.
type newerError struct{ *StreamError }

func (e newerError) Unwrap() error { return e.StreamError }

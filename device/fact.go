package device

import "strings"

// Told makes a Fact of what a recorder, a card or a bus said, and the unknown one
// of a value that names nothing: an empty one, the zeros and dashes of a recorder
// that nobody set up, more than 64 bytes, control characters, no valid UTF-8.
// Spaces and NULs around the value are padding.
func Told(source, value string) Fact {
	value = strings.Trim(value, " \t\r\n\x00")
	if strings.Trim(value, "0-_. ") == "" || !saysSomething(value) {
		return Fact{}
	}
	return Fact{Source: source, Value: value}
}

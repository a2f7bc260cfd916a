package unit

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"

	"github.com/godbus/dbus/v5"
)

// messageFilter reads whole D-Bus messages and drops signals before the D-Bus library decodes them. systemd sends
// every signal about every unit to every connection. go-systemd decodes all of them, which was 38 % of the processor
// time of a supervisor that starts units (BenchmarkSignals, TestFilterIsCheaperThanDecoding).
type messageFilter struct {
	in      *bufio.Reader
	dropped func(signalHeader) bool
	message []byte
	rest    []byte // the part of message that was not read yet
}

// signalHeader has the fields of a signal's header, and the first string of its body.
type signalHeader struct {
	path          dbus.ObjectPath
	iface, member string
	first         string
}

// Constants of the D-Bus specification, "Message Format".
const (
	fixedHeader   = 16 // bytes up to and including the length of the header fields
	signalType    = 4
	messageLimit  = 1 << 27
	fieldPath     = 1
	fieldIface    = 2
	fieldMember   = 3
	littleEndian  = 'l'
	headerPadding = 8
)

var errMessage = errors.New("not a D-Bus message")

// Read returns the bytes of the messages that are not dropped.
func (f *messageFilter) Read(p []byte) (int, error) {
	for len(f.rest) == 0 {
		if err := f.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

// next reads one message into message. rest stays empty if the message is dropped.
func (f *messageFilter) next() error {
	header, err := f.in.Peek(fixedHeader)
	if err != nil {
		return err
	}
	order := byteOrder(header)
	fields, body := order.Uint32(header[12:]), order.Uint32(header[4:])
	if fields > messageLimit || body > messageLimit {
		return errMessage
	}
	size := padded(fixedHeader+int(fields)) + int(body)
	if cap(f.message) < size {
		f.message = make([]byte, size)
	}
	f.message = f.message[:size]
	if _, err := io.ReadFull(f.in, f.message); err != nil {
		return err
	}
	if f.message[1] == signalType {
		if s, ok := parseSignal(f.message); ok && f.dropped(s) {
			return nil
		}
	}
	f.rest = f.message
	return nil
}

func byteOrder(header []byte) binary.ByteOrder {
	if header[0] == littleEndian {
		return binary.LittleEndian
	}
	return binary.BigEndian
}

func padded(n int) int { return (n + headerPadding - 1) &^ (headerPadding - 1) }

// parseSignal parses the header of a signal. It returns false for a header that it cannot parse.
func parseSignal(message []byte) (s signalHeader, ok bool) {
	order := byteOrder(message)
	end := fixedHeader + int(order.Uint32(message[12:]))
	if end > len(message) {
		return s, false
	}
	for at := fixedHeader; at < end; {
		at = padded(at)
		if at+3 > end || message[at+1] != 1 { // the code, and a signature of one type
			return s, false
		}
		code, kind := message[at], message[at+2]
		at += 4
		switch kind {
		case 's', 'o':
			text, next, ok := readString(message[:end], at, order)
			if !ok {
				return s, false
			}
			switch code {
			case fieldPath:
				s.path = dbus.ObjectPath(text)
			case fieldIface:
				s.iface = text
			case fieldMember:
				s.member = text
			}
			at = next
		case 'u':
			at = (at+3)&^3 + 4
		case 'g':
			if at >= end {
				return s, false
			}
			at += int(message[at]) + 2
		default:
			return s, false
		}
	}
	// A value of another type, read as a string, is the name of no unit and of no interface.
	s.first, _, _ = readString(message, padded(end), order)
	return s, true
}

// readString reads the string at the next multiple of four. next is the offset after it.
func readString(message []byte, at int, order binary.ByteOrder) (text string, next int, ok bool) {
	at = (at + 3) &^ 3
	if at+4 > len(message) {
		return "", 0, false
	}
	length := order.Uint32(message[at:])
	at += 4
	if length > messageLimit || at+int(length)+1 > len(message) {
		return "", 0, false
	}
	return string(message[at : at+int(length)]), at + int(length) + 1, true
}

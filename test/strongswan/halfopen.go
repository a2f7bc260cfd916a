package main

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// Numbers of RFC 7296.
const (
	payloadSA     = 33
	payloadKE     = 34
	payloadNonce  = 40
	payloadNotify = 41
	notifyCookie  = 16390
	exchangeInit  = 34
)

// initRequest returns an IKE_SA_INIT request with AES-256, SHA-256 and group 14, and with a new initiator SPI. The key
// exchange data is random, so nobody could continue the exchange.
func initRequest() []byte {
	transform := func(last bool, kind byte, id uint16, attribute ...byte) []byte {
		more := byte(3)
		if last {
			more = 0
		}
		t := []byte{more, 0, 0, byte(8 + len(attribute)), kind, 0, byte(id >> 8), byte(id)}
		return append(t, attribute...)
	}
	var transforms []byte
	transforms = append(transforms, transform(false, 1, 12, 0x80, 14, 1, 0)...) // AES-CBC with a key of 256 bits
	transforms = append(transforms, transform(false, 2, 5)...)                  // PRF HMAC-SHA2-256
	transforms = append(transforms, transform(false, 3, 12)...)                 // HMAC-SHA2-256-128
	transforms = append(transforms, transform(true, 4, 14)...)                  // 2048-bit MODP
	proposal := append([]byte{0, 0, 0, byte(8 + len(transforms)), 1, 1, 0, 4}, transforms...)
	public, nonce := make([]byte, 256), make([]byte, 32)
	_, _ = rand.Read(public)
	_, _ = rand.Read(nonce)
	public[0] = 0 // the value must be below the prime

	payload := func(next byte, content []byte) []byte {
		header := []byte{next, 0, 0, 0}
		binary.BigEndian.PutUint16(header[2:], uint16(4+len(content)))
		return append(header, content...)
	}
	message := make([]byte, 28)
	_, _ = rand.Read(message[:8])
	message[16], message[17], message[18], message[19] = payloadSA, 0x20, exchangeInit, 0x08
	message = append(message, payload(payloadKE, proposal)...)
	message = append(message, payload(payloadNonce, append([]byte{0, 14, 0, 0}, public...))...)
	message = append(message, payload(0, nonce)...)
	binary.BigEndian.PutUint32(message[24:], uint32(len(message)))
	return message
}

// halfOpen sends IKE_SA_INIT requests from the peer's address, without continuing any exchange, until our daemon
// requests a cookie (RFC 7296, section 2.6). The daemon must do so before it uses half of its unit's MemoryHigh: above
// MemoryHigh the kernel throttles it. Without cookies, 10,000 requests use more than that, unless the machine is so
// slow that the first ones time out meanwhile.
var halfOpen = step{"half-open requests from the peer's address", func(b *testbed, _ row) error {
	var connection *net.UDPConn
	err := in("peer", func() (err error) {
		peer := &net.UDPAddr{IP: net.IPv4(200, 200, 200, 2), Port: 5000}
		container := &net.UDPAddr{IP: net.IPv4(100, 100, 100, 2), Port: 500}
		connection, err = net.DialUDP("udp4", peer, container)
		return err
	})
	if err != nil {
		return err
	}
	defer func() { _ = connection.Close() }()
	limit, err := memory("MemoryHigh")
	if err != nil {
		return err
	}
	answer := make([]byte, 2000)
	for i := 1; i <= 10000; i++ {
		if i%1000 == 0 {
			now, err := memory("MemoryCurrent")
			if err != nil {
				return err
			}
			if b.note("%d requests: %d MB", i, now>>20); now > limit/2 {
				return fmt.Errorf(
					"no cookie before %d half-open requests; the unit uses %d MB, and MemoryHigh is %d MB", i, now>>20,
					limit>>20)
			}
		}
		if _, err := connection.Write(initRequest()); err != nil {
			return err
		}
		// Each request waits for the answer to the one before, so that no queue drops requests.
		if err := connection.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
			return err
		}
		n, err := connection.Read(answer)
		if err == nil && n > 36 && answer[16] == payloadNotify && binary.BigEndian.Uint16(answer[34:]) == notifyCookie {
			b.note("a cookie for request %d", i)
			return nil
		}
	}
	return errors.New("no cookie before 10000 half-open requests")
}}

// memory returns a property of the daemon's unit that is a number of bytes.
func memory(property string) (int, error) {
	text, err := command("", "systemctl", "show", "-P", property, unit)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(text))
}

// Formats is Go's word on the formats of trust/: golang.org/x/mod/sumdb/note and tlog beside ours, in one run.
// It reads what tests/trust.test.ts has put into a directory, says the first thing that differs and exits with 1, or writes
// notes of its own there for our code to open.
//
//	GO111MODULE=off GOPATH=/usr/share/gocode go run tests/outside/formats.go DIR
package main

import (
	"bytes"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

var dir string

func read(name string) []byte {
	data, err := os.ReadFile(filepath.Join(dir, name))
	check(err)
	return data
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// Hashes is a file of stored hashes, in tlog's order.
type hashes []byte

func (h hashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	list := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		copy(list[i][:], h[index*tlog.HashSize:])
	}
	return list, nil
}

// The hashes of records "record 0", "record 1", … must be those that Go stores.
func checkHashes(ours hashes, size int64) {
	at := 0
	for n := int64(0); n < size; n++ {
		stored, err := tlog.StoredHashes(n, []byte(fmt.Sprintf("record %d", n)), ours)
		check(err)
		for _, hash := range stored {
			if !bytes.Equal(hash[:], ours[at:at+tlog.HashSize]) {
				log.Fatalf("stored hash %d of record %d differs", at/tlog.HashSize, n)
			}
			at += tlog.HashSize
		}
	}
	if at != len(ours) {
		log.Fatalf("%d bytes of hashes, not %d", len(ours), at)
	}
}

func parse(words []string) []tlog.Hash {
	list := []tlog.Hash{}
	for _, word := range words {
		hash, err := tlog.ParseHash(word)
		check(err)
		list = append(list, hash)
	}
	return list
}

// A line of proofs: "inclusion N SIZE ROOT LEAF HASH…" or "consistency OLD SIZE ROOT OLDROOT HASH…".
func checkProof(line string, ours hashes) {
	words := strings.Fields(line)
	var n, size int64
	_, err := fmt.Sscan(words[1]+" "+words[2], &n, &size)
	check(err)
	list := parse(words[3:])
	root, other, proof := list[0], list[1], list[2:]
	want, err := tlog.TreeHash(size, ours)
	check(err)
	if root != want {
		log.Fatalf("root of %d differs", size)
	}
	var theirs []tlog.Hash
	if words[0] == "inclusion" {
		check(tlog.CheckRecord(proof, size, root, n, other))
		theirs, err = tlog.ProveRecord(size, n, ours)
	} else {
		check(tlog.CheckTree(proof, size, root, n, other))
		theirs, err = tlog.ProveTree(size, n, ours)
	}
	check(err)
	if fmt.Sprint(theirs) != fmt.Sprint(proof) {
		log.Fatalf("%s: Go's proof differs", strings.Join(words[:3], " "))
	}
}

// The tiles of a tree lie under tile/ as C2SP names them: Go's paths without the height.
func checkTiles(ours hashes, size int64) int {
	count := 0
	for _, tile := range tlog.NewTiles(8, 0, size) {
		if tile.W < 256 && int64(tile.W) != (size>>(8*tile.L))&255 {
			continue // a partial tile of a smaller tree
		}
		count++
		data, err := tlog.ReadTileData(tile, ours)
		check(err)
		path := strings.Replace(tile.Path(), "tile/8/", "tile/", 1)
		if !bytes.Equal(data, read(path)) {
			log.Fatalf("%s differs", path)
		}
	}
	return count
}

// Our notes are opened by Go, and Go's are written for us: each line of keys is "SIGNER VERIFIER".
func checkNotes() int {
	keys := strings.Split(strings.TrimSpace(string(read("keys"))), "\n")
	for i, line := range keys {
		words := strings.Fields(line)
		signer, err := note.NewSigner(words[0])
		check(err)
		verifier, err := note.NewVerifier(words[1])
		check(err)
		ours := read(fmt.Sprintf("note%d", i))
		opened, err := note.Open(ours, note.VerifierList(verifier))
		check(err)
		theirs, err := note.Sign(&note.Note{Text: opened.Text}, signer)
		check(err)
		if !bytes.Equal(ours, theirs) {
			log.Fatalf("note %d differs", i)
		}
		check(os.WriteFile(filepath.Join(dir, fmt.Sprintf("go%d", i)), theirs, 0o644))
	}
	return len(keys)
}

func main() {
	log.SetFlags(0)
	dir = os.Args[1]
	var size int64
	fmt.Sscan(string(read("size")), &size)
	ours := hashes(read("hashes"))
	checkHashes(ours, size)
	proofs := strings.Split(strings.TrimSpace(string(read("proofs"))), "\n")
	for _, line := range proofs {
		checkProof(line, ours)
	}
	tiles := checkTiles(ours, size)
	fmt.Printf("%d records, %d proofs, %d tiles, %d notes agree\n", size, len(proofs), tiles, checkNotes())
}

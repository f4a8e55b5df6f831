// Checks an exported audit log with none of arena8's code: Go's standard library and the checksum database's own log code (x/mod/sumdb), which
// the Go command trusts every day. Read it in five minutes, then run it:
//
//	GO111MODULE=off GOPATH=/usr/share/gocode go run verify.go DIR VKEY                  (Debian: golang-go golang-golang-x-mod-dev)
//	… verify.go -seen OLD_CHECKPOINT -witness WITNESS_VKEY DIR VKEY
//
// DIR holds `checkpoint` and `tile/…` as C2SP tlog-tiles lays them out; VKEY is the log's key, from somebody other than the log. It prints `ok …`,
// or the first bad place. With -batch it checks DIR again and again with files replaced, as standard input says (see batch).
package main

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// files is a log: the bytes of every file under its path.
type files map[string][]byte

// tileHeight is C2SP's: a full tile holds 2⁸ hashes, a full bundle 2⁸ records.
const tileHeight = 8

// path is where C2SP keeps a tile. x/mod writes tile/8/LEVEL/… and tile/8/data/… for the same.
func path(t tlog.Tile) string {
	return strings.Replace(strings.Replace(t.Path(), "tile/8/", "tile/", 1), "tile/data/", "tile/entries/", 1)
}

// tilesOf lists all tiles of one level (-1: the bundles of records) of a log of so many records, from left to right.
func tilesOf(level int, size int64) (list []tlog.Tile) {
	count := size
	if level > 0 {
		count = size >> uint(tileHeight*level)
	}
	for n := int64(0); n<<tileHeight < count; n++ {
		width := count - n<<tileHeight
		if width > 1<<tileHeight {
			width = 1 << tileHeight
		}
		list = append(list, tlog.Tile{H: tileHeight, L: level, N: n, W: int(width)})
	}
	return list
}

func bundlePath(record int, size int64) string { return path(tilesOf(-1, size)[record>>tileHeight]) }

// allTiles lists every tile and bundle of a log of so many records: the only files besides its checkpoint.
func allTiles(size int64) (list []tlog.Tile) {
	for level := -1; level < 1 || size>>uint(tileHeight*level) > 0; level++ {
		list = append(list, tilesOf(level, size)...)
	}
	return list
}

// Tiles for x/mod, which makes proofs from them; no proof is believed that does not lead to the signed root.
func (f files) Height() int                     { return tileHeight }
func (f files) SaveTiles([]tlog.Tile, [][]byte) {}
func (f files) ReadTiles(tiles []tlog.Tile) (data [][]byte, err error) {
	for _, t := range tiles {
		data = append(data, f[path(t)])
	}
	return data, nil
}

// openCheckpoint verifies a signed note and reads its three lines: origin, size, root. Every key given must have signed.
func openCheckpoint(text []byte, keys []note.Verifier) (tree tlog.Tree, err error) {
	n, err := note.Open(text, note.VerifierList(keys...))
	if err != nil {
		return tree, err
	}
	signed := map[string]bool{}
	for _, s := range n.Sigs {
		signed[fmt.Sprint(s.Name, s.Hash)] = true
	}
	for _, k := range keys {
		if !signed[fmt.Sprint(k.Name(), k.KeyHash())] {
			return tree, fmt.Errorf("not signed by %s", k.Name())
		}
	}
	// Go reads base64 generously: bits behind the last byte may be anything. Nothing may be changed unseen, not even those.
	for _, s := range append(n.Sigs, n.UnverifiedSigs...) {
		if _, err := base64.StdEncoding.Strict().DecodeString(s.Base64); err != nil {
			return tree, fmt.Errorf("signature of %s: %v", s.Name, err)
		}
	}
	lines := strings.Split(n.Text, "\n")
	if len(lines) != 4 || lines[3] != "" {
		return tree, fmt.Errorf("text is not three lines")
	}
	if lines[0] != keys[0].Name() {
		return tree, fmt.Errorf("origin %q is not the key's name %q", lines[0], keys[0].Name())
	}
	if tree.N, err = strconv.ParseInt(lines[1], 10, 64); err != nil || tree.N < 0 || lines[1] != fmt.Sprint(tree.N) {
		return tree, fmt.Errorf("size %q", lines[1])
	}
	if tree.Hash, err = tlog.ParseHash(lines[2]); err != nil || lines[2] != tree.Hash.String() {
		return tree, fmt.Errorf("root %q", lines[2])
	}
	return tree, nil
}

// readRecords takes the bundles apart: each record is its length in two bytes, the greater first, and its bytes: a JSON object that knows its number.
// With an error come the records before it.
func readRecords(f files, size int64) (records [][]byte, err error) {
	for _, t := range tilesOf(-1, size) {
		bundle := f[path(t)]
		rest := bundle
		for i := 0; i < t.W; i++ {
			at := fmt.Sprintf("%s: record %d (byte %d)", path(t), len(records), len(bundle)-len(rest))
			if len(rest) < 2 || len(rest) < 2+int(binary.BigEndian.Uint16(rest)) {
				return records, fmt.Errorf("%s: cut off", at)
			}
			length := int(binary.BigEndian.Uint16(rest))
			record := rest[2 : 2+length]
			rest = rest[2+length:]
			fields := map[string]json.RawMessage{}
			if err := json.Unmarshal(record, &fields); err != nil {
				return records, fmt.Errorf("%s: %v", at, err)
			}
			if number := string(fields["arena8.record"]); number != fmt.Sprint(len(records)) {
				return records, fmt.Errorf("%s: calls itself %q", at, number)
			}
			records = append(records, record)
		}
		if len(rest) > 0 {
			return records, fmt.Errorf("%s: %d bytes behind its last record", path(t), len(rest))
		}
	}
	return records, nil
}

// hashStore holds the hashes of a tree in x/mod's order; here they come from the records, not from tiles.
type hashStore []tlog.Hash

func (s hashStore) ReadHashes(indexes []int64) (list []tlog.Hash, err error) {
	for _, i := range indexes {
		list = append(list, s[i])
	}
	return list, nil
}

// storeOf makes the tree of the records.
func storeOf(records [][]byte) (store hashStore, err error) {
	for i, record := range records {
		hashes, err := tlog.StoredHashes(int64(i), record, store)
		if err != nil {
			return nil, err
		}
		store = append(store, hashes...)
	}
	return store, nil
}

// wrongRecord finds the first record whose hash is not the one in its tile.
func wrongRecord(f files, size int64, records [][]byte) error {
	tiles := tilesOf(0, size)
	for i, record := range records {
		t := tiles[i>>tileHeight]
		at := i % (1 << tileHeight) * tlog.HashSize
		if hash := tlog.RecordHash(record); !bytes.Equal(f[path(t)][at:at+tlog.HashSize], hash[:]) {
			return fmt.Errorf("%s: record %d: not the one whose hash is in %s", bundlePath(i, size), i, path(t))
		}
	}
	return nil
}

// wrongTile finds the first hash of a tile that is not the tree's. Proofs alone do not show that: a log of one record needs no tile for its proof,
// and tlog.TileHashReader, which hashes most tiles up to the root before it takes a hash from them, misses some (as of x/mod 0.7).
func wrongTile(f files, size int64, store hashStore) error {
	for _, t := range allTiles(size) {
		if t.L < 0 {
			continue
		}
		want, err := tlog.ReadTileData(t, store)
		if err != nil {
			return err
		}
		for at := 0; at < len(want); at += tlog.HashSize {
			if !bytes.Equal(f[path(t)][at:at+tlog.HashSize], want[at:at+tlog.HashSize]) {
				return fmt.Errorf("%s: hash %d (byte %d): not that of the records", path(t), at/tlog.HashSize, at)
			}
		}
	}
	return nil
}

// checkTree holds records, tiles and root against each other. Where records have another root than the signed one, one of them is wrong; else a tile.
func checkTree(f files, tree tlog.Tree, records [][]byte) error {
	store, err := storeOf(records)
	if err != nil {
		return err
	}
	root := tlog.Hash(sha256.Sum256(nil)) // of no records
	if tree.N > 0 {
		if root, err = tlog.TreeHash(tree.N, store); err != nil {
			return err
		}
	}
	if root != tree.Hash {
		if err := wrongRecord(f, tree.N, records); err != nil {
			return err
		}
	}
	if err := wrongTile(f, tree.N, store); err != nil {
		return err
	}
	if root != tree.Hash {
		return fmt.Errorf("checkpoint: its root is not that of the %d records", tree.N)
	}
	return nil
}

// check verifies a whole log, and that it continues the head `seen` (nil: none was seen before). The first key is the log's, also written vkey.
func check(f files, vkey string, keys []note.Verifier, seen *tlog.Tree) (tree tlog.Tree, err error) {
	// 1. Who says so? The checkpoint is signed: size and root are the log's word.
	tree, err = openCheckpoint(f["checkpoint"], keys)
	if err != nil {
		return tree, fmt.Errorf("checkpoint: %v", err)
	}
	if seen != nil && tree.N < seen.N {
		return tree, fmt.Errorf("checkpoint: rollback: %d records, %d were seen", tree.N, seen.N)
	}

	// 2. Are all the files there, and no others? A file too many could be shown to somebody else.
	if tree.N>>tileHeight > int64(len(f)) {
		return tree, fmt.Errorf("checkpoint: %d records are not in %d files", tree.N, len(f))
	}
	known := map[string]bool{"checkpoint": true, "pubkey": true}
	if said, there := f["pubkey"]; there && string(said) != vkey+"\n" { // the log's own word is worth nothing, but it must not say another key
		return tree, fmt.Errorf("pubkey: not the key that was given")
	}
	for _, t := range allTiles(tree.N) {
		name := path(t)
		known[name] = true
		data, there := f[name]
		if !there {
			return tree, fmt.Errorf("%s: missing", name)
		}
		if t.L >= 0 && len(data) != t.W*tlog.HashSize {
			return tree, fmt.Errorf("%s: %d bytes, not %d", name, len(data), t.W*tlog.HashSize)
		}
	}
	var names []string
	for name := range f {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		if !known[name] {
			return tree, fmt.Errorf("%s: no file of a log of %d records", name, tree.N)
		}
	}

	// 3. Is every record in the signed tree, under its number? First by the tree of the records, which tells the place where not; then as x/mod's
	// clients ask: a proof for each record from the tiles alone, that leads to the signed root.
	records, err := readRecords(f, tree.N)
	if err != nil {
		if before := wrongRecord(f, tree.N, records); before != nil {
			return tree, before
		}
		return tree, err
	}
	if err := checkTree(f, tree, records); err != nil {
		return tree, err
	}
	reader := tlog.TileHashReader(tree, f)
	for i, record := range records {
		proof, err := tlog.ProveRecord(tree.N, int64(i), reader)
		if err == nil {
			err = tlog.CheckRecord(proof, tree.N, tree.Hash, int64(i), tlog.RecordHash(record))
		}
		if err != nil {
			return tree, fmt.Errorf("%s: record %d: %v", bundlePath(i, tree.N), i, err)
		}
	}

	// 4. Is it the log that was seen before, longer? A log that shows two people two pasts cannot make this proof.
	if seen != nil && seen.N > 0 {
		proof, err := tlog.ProveTree(tree.N, seen.N, reader)
		if err == nil {
			err = tlog.CheckTree(proof, tree.N, tree.Hash, seen.N, seen.Hash)
		}
		if err != nil {
			return tree, fmt.Errorf("checkpoint: fork: its first %d records are not those that were seen: %v", seen.N, err)
		}
	}
	return tree, nil
}

// witness is a key that cosigns checkpoints (C2SP tlog-cosignature v1): it says at what time it saw this head, and that it never saw another past.
type witness struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

func (w *witness) Name() string    { return w.name }
func (w *witness) KeyHash() uint32 { return w.hash }
func (w *witness) Verify(text, sig []byte) bool {
	if len(sig) != 8+ed25519.SignatureSize {
		return false
	}
	time := binary.BigEndian.Uint64(sig)
	return ed25519.Verify(w.key, []byte(fmt.Sprintf("cosignature/v1\ntime %d\n%s", time, text)), sig[8:])
}

// newWitness reads NAME+HASH+BASE64, where the base64 is of the byte 4 and an Ed25519 key; the hash is the first four bytes of SHA-256 of both.
func newWitness(vkey string) (note.Verifier, error) {
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) != 3 {
		return nil, fmt.Errorf("witness %q: not NAME+HASH+KEY", vkey)
	}
	key, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(key) != 1+ed25519.PublicKeySize || key[0] != 4 {
		return nil, fmt.Errorf("witness %q: no cosigner's key", vkey)
	}
	sum := sha256.Sum256(append([]byte(parts[0]+"\n"), key...))
	if hash := binary.BigEndian.Uint32(sum[:]); fmt.Sprintf("%08x", hash) == parts[1] {
		return &witness{parts[0], hash, key[1:]}, nil
	}
	return nil, fmt.Errorf("witness %q: its hash is of another key", vkey)
}

func readDirectory(dir string) (f files, err error) {
	f = files{}
	err = filepath.Walk(dir, func(name string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		data, err := os.ReadFile(name)
		f[filepath.ToSlash(name[len(filepath.Clean(dir))+1:])] = data
		return err
	})
	return f, err
}

// batch reads cases from standard input: a line with a number of files; for each a line `PATH LENGTH` (-1: the file is gone) and its bytes.
// Each case is the log with those files; each answer is one line.
func batch(base files, answer func(files) string) error {
	in := bufio.NewReader(os.Stdin)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for {
		var count, length int
		if _, err := fmt.Fscanf(in, "%d\n", &count); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		f := files{}
		for name, data := range base {
			f[name] = data
		}
		for ; count > 0; count-- {
			var name string
			if _, err := fmt.Fscanf(in, "%s %d\n", &name, &length); err != nil {
				return err
			}
			if delete(f, name); length >= 0 {
				f[name] = make([]byte, length)
				if _, err := io.ReadFull(in, f[name]); err != nil {
					return err
				}
			}
		}
		fmt.Fprintln(out, answer(f))
		if in.Buffered() == 0 {
			out.Flush()
		}
	}
}

func main() {
	seenFile := flag.String("seen", "", "checkpoint that was seen before: the log must continue it")
	isBatch := flag.Bool("batch", false, "check DIR with files replaced, as standard input says")
	var keys []note.Verifier
	flag.Func("witness", "key of a witness who must have cosigned (any number)", func(vkey string) error {
		w, err := newWitness(vkey)
		keys = append(keys, w)
		return err
	})
	flag.Parse()
	if flag.NArg() != 2 {
		fmt.Fprintln(os.Stderr, "usage: verify [-seen CHECKPOINT] [-witness VKEY]… [-batch] DIR VKEY")
		os.Exit(2)
	}
	fail := func(err error) {
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	logKey, err := note.NewVerifier(flag.Arg(1))
	fail(err)
	keys = append([]note.Verifier{logKey}, keys...)
	log, err := readDirectory(flag.Arg(0))
	fail(err)
	var seen *tlog.Tree
	if *seenFile != "" {
		text, err := os.ReadFile(*seenFile)
		fail(err)
		head, err := openCheckpoint(text, keys[:1])
		if err != nil {
			fail(fmt.Errorf("seen head: %v", err))
		}
		seen = &head
	}
	if *isBatch {
		fail(batch(log, func(f files) string {
			if _, err := check(f, flag.Arg(1), keys, seen); err != nil {
				return err.Error()
			}
			return "ok"
		}))
		return
	}
	tree, err := check(log, flag.Arg(1), keys, seen)
	fail(err)
	fmt.Printf("ok %d records, root %s\n", tree.N, tree.Hash)
}

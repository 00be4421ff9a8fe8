# bench_work.sh: sourced by scripts/bench: the work it times. For each W: name_of W; can_W FS: it makes sense there; before_W FS: not
# timed; work_W TOP FS: timed, in the tree TOP. In this order, each on what the ones before left. Needs: TREE, the kernel tree as tar;
# ROOT; SPARE; BENCH_DIR; the work directory's own file system is "direct".

ALL_WORK=(untar applied grep_cold grep_again grep_warm find_cold find_again find_warm past_grep_cold clone status status_warm build sqlite_journal sqlite_wal write_1m write_4k read_cold read_warm
	past_read_cold remove)

name_of() {
	case $1 in
	untar) echo "untar" ;;
	applied) echo "... until it is durable and applied" ;;
	grep_cold) echo "grep -r, cold" ;;
	grep_again) echo "grep -r, the second time" ;;
	grep_warm) echo "grep -r, warm (the third)" ;;
	find_cold) echo "find, cold" ;;
	find_again) echo "find, the second time" ;;
	find_warm) echo "find, warm (the third)" ;;
	past_grep_cold) echo "grep -r in .snapshots, cold" ;;
	clone) echo "git clone" ;;
	status) echo "git status, the first time" ;;
	status_warm) echo "git status, warm" ;;
	build) echo "build this project's store/" ;;
	sqlite_journal) echo "1,000 SQLite commits, rollback journal, FULL" ;;
	sqlite_wal) echo "1,000 SQLite commits, WAL, FULL" ;;
	write_1m) echo "write 256 MB by 1 MiB" ;;
	write_4k) echo "write 80 MB by 4 KiB" ;;
	read_cold) echo "read 256 MB, cold" ;;
	read_warm) echo "read 256 MB, warm" ;;
	past_read_cold) echo "read 256 MB in .snapshots, cold" ;;
	remove) echo "rm -rf the tree" ;;
	esac
}

drop_caches() { sync -f "$BENCH_DIR"; echo 3 >/proc/sys/vm/drop_caches; }
anywhere() { case $1 in floor_sync | ordered) return 1 ;; esac; } # those two are for what waits for fsync
fsyncs() { :; }
only_spare() { [ "$1" = spare ]; }
nothing() { :; }

can_untar() { anywhere "$1"; }
before_untar() { nothing; }
work_untar() { tar -xf "$TREE" -C "$1"; }

# From the end of untar on; added to it by the reader.
can_applied() { only_spare "$1"; }
before_applied() { nothing; }
work_applied() { "$SPARE" wait "$1" >>"$BENCH_DIR/spare.log" 2>&1; }

can_grep_cold() { anywhere "$1"; }
before_grep_cold() { drop_caches; }
work_grep_cold() { grep -r "no such words in it" "$1"/linux-source-* >/dev/null; [ $? = 1 ]; }

# A FUSE file system is asked once more for the attributes of each file that was read: its time of access may have changed.
can_grep_again() { anywhere "$1"; }
before_grep_again() { nothing; }
work_grep_again() { work_grep_cold "$1"; }

can_grep_warm() { anywhere "$1"; }
before_grep_warm() { nothing; }
work_grep_warm() { work_grep_cold "$1"; }

can_find_cold() { anywhere "$1"; }
before_find_cold() { drop_caches; }
work_find_cold() { find "$1"/linux-source-* -newermt 2000-01-01 -printf '' ; }

# As with files: each directory that was listed is asked for its attributes once more.
can_find_again() { anywhere "$1"; }
before_find_again() { nothing; }
work_find_again() { work_find_cold "$1"; }

can_find_warm() { anywhere "$1"; }
before_find_warm() { nothing; }
work_find_warm() { work_find_cold "$1"; }

can_past_grep_cold() { only_spare "$1"; }
before_past_grep_cold() { "$SPARE" snapshot create bench --store "$BENCH_DIR/store" >>"$BENCH_DIR/spare.log" 2>&1; drop_caches; }
work_past_grep_cold() { grep -r "no such words in it" "$1"/.snapshots/bench/linux-source-* >/dev/null; [ $? = 1 ]; }

can_clone() { anywhere "$1"; }
before_clone() { nothing; }
work_clone() { git clone -q --no-hardlinks "$ROOT" "$1/clone"; }

can_status() { anywhere "$1"; }
before_status() { nothing; }
work_status() { git -C "$1/clone" status --porcelain >/dev/null; }

can_status_warm() { anywhere "$1"; }
before_status_warm() { nothing; }
work_status_warm() { work_status "$1"; }

can_build() { anywhere "$1"; }
before_build() { nothing; }
# By hand: what configure costs is not the file system's.
work_build() {
	mkdir "$1/build" && find "$1/clone/store" -name '*.c' -printf '%P\n' | sort >"$1/build/list" &&
		(cd "$1/clone" && xargs -P 2 -I{} sh -c 'gcc -std=c11 -D_GNU_SOURCE -O1 -I. -c "store/$1" -o "../build/$(echo "$1" | tr / _).o"' - {} <../build/list) &&
		ar rcs "$1/build/store.a" "$1"/build/*.o
}

sqlite() { # sqlite TOP MODE
	python3 - "$1/$2.db" "$2" "$BENCH_DIR/took" <<-'END'
		import sqlite3, sys, time
		from_ = time.monotonic()
		c = sqlite3.connect(sys.argv[1], isolation_level=None)
		c.execute("pragma journal_mode=" + sys.argv[2])
		c.execute("pragma synchronous=full")
		c.execute("create table t(a integer primary key, b text)")
		for i in range(1000): c.execute("insert into t(b) values (?)", ("x" * 200,))
		open(sys.argv[3], "w").write("%.4f\n" % (time.monotonic() - from_))
		assert c.execute("pragma integrity_check").fetchone() == ("ok",)
	END
}
can_sqlite_journal() { fsyncs; }
before_sqlite_journal() { nothing; }
work_sqlite_journal() { sqlite "$1" delete; }
can_sqlite_wal() { fsyncs; }
before_sqlite_wal() { nothing; }
work_sqlite_wal() { sqlite "$1" wal; }

can_write_1m() { anywhere "$1"; }
before_write_1m() { [ -e "$BENCH_DIR/random" ] || head -c 268435456 /dev/urandom >"$BENCH_DIR/random"; cat "$BENCH_DIR/random" >/dev/null; }
work_write_1m() { dd if="$BENCH_DIR/random" of="$1/big" bs=1M status=none; }
can_write_4k() { anywhere "$1"; }
before_write_4k() { nothing; }
work_write_4k() { dd if="$BENCH_DIR/random" of="$1/small" bs=4k count=20000 status=none; }
can_read_cold() { anywhere "$1"; }
before_read_cold() { drop_caches; }
work_read_cold() { dd if="$1/big" of=/dev/null bs=1M status=none; }
can_read_warm() { anywhere "$1"; }
before_read_warm() { nothing; }
work_read_warm() { work_read_cold "$1"; }
can_past_read_cold() { only_spare "$1"; }
before_past_read_cold() { "$SPARE" snapshot create bench2 --store "$BENCH_DIR/store" >>"$BENCH_DIR/spare.log" 2>&1; drop_caches; }
work_past_read_cold() { dd if="$1/.snapshots/bench2/big" of=/dev/null bs=1M status=none; }

can_remove() { anywhere "$1"; }
before_remove() { nothing; }
work_remove() { rm -rf "$1"/linux-source-*; }

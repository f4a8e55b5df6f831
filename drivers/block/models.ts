// Kinds of storage and their times: what a read takes at best, as a healthy device shows, and at worst. Rates of interfaces are those of the
// specifications; latencies are of the class that datasheets give; what rests on nobody's word is called an assumption, and stands on the safe
// side. `man disk` prints this table.

import type { DiskModel } from '../../kernel/abi/index.ts';

const US = 1000;
const MS = 1000 * US;

/** 10¹² picoseconds ÷ (MB/s · 10⁶ bytes), rounded up. */
const perByte = (megabytesPerSecond: number): number => Math.ceil(1e6 / megabytesPerSecond);

export const DISK_MODELS: readonly DiskModel[] = [
  {
    name: 'nvme',
    title: 'NVMe SSD, PCIe 3.0 x4',
    latencyNs: { least: 10 * US, typical: 80 * US, most: 5 * MS },
    bytePs: { least: perByte(3938), typical: perByte(3400), most: perByte(1000) },
    queueDepth: 1023,
    sectorBytes: 512,
    retries: 1,
    source:
      'PCI Express 3.0: 8 GT/s a lane, 128b/130b, four lanes: 3,938 MB/s; NVM Express 1.4: queues to 65,536 commands, of which Linux uses 1,023; datasheet class of consumer drives of 2018: 3,400 MB/s in order, 12,000 to 15,000 4 KiB reads a second at queue depth 1',
    why: 'typical: 80 us is 12,500 reads a second; most is an assumption: a read behind the erase of its die, and a drive that has throttled to 1 GB/s',
  },
  {
    name: 'emmc',
    title: 'eMMC 5.1, HS400',
    latencyNs: { least: 50 * US, typical: 150 * US, most: 20 * MS },
    bytePs: { least: perByte(400), typical: perByte(280), most: perByte(50) },
    queueDepth: 1,
    sectorBytes: 512,
    retries: 1,
    source:
      'JEDEC JESD84-B51: HS400, 200 MHz, both edges, eight lines: 400 MB/s; datasheet class: 250 to 320 MB/s in order, 6,000 to 8,000 4 KiB reads a second',
    why: 'the command queue of 5.1 is optional and taken to be off; most is an assumption: garbage collection in the way of every read',
  },
  {
    name: 'sd',
    title: 'SD card, UHS-I SDR104',
    latencyNs: { least: 100 * US, typical: 600 * US, most: 100 * MS },
    bytePs: { least: perByte(104), typical: perByte(90), most: perByte(10) },
    queueDepth: 1,
    sectorBytes: 512,
    retries: 2,
    source:
      'SD Physical Layer Simplified Specification: UHS-I SDR104, 208 MHz, four lines: 104 MB/s; application class A1: 1,500 random 4 KiB reads a second; 100 ms until a host gives a read up; speed class 10: 10 MB/s',
    why: 'typical: one of 1,500 reads a second takes 667 us, 4 KiB of it transfer; most: the time-out of the specification, and its slowest class that is still sold, which speaks of writing: for reading an assumption',
  },
  {
    name: 'sd-spi',
    title: 'SD card, SPI mode, 25 MHz',
    latencyNs: { least: 100 * US, typical: 800 * US, most: 100 * MS },
    bytePs: { least: perByte(3.125), typical: perByte(2.8), most: perByte(1.5625) },
    queueDepth: 1,
    sectorBytes: 512,
    retries: 2,
    source:
      'SD Physical Layer Simplified Specification: SPI mode at default speed, 25 MHz, one line: 3.125 MB/s; 100 ms until a host gives a read up',
    why: 'typical: each 512 bytes bring a start token, 16 bits of CRC and some idle bytes, and the driver its own, an assumption; most: the clock at half',
  },
  {
    name: 'qspi',
    title: 'QSPI NOR flash, 133 MHz',
    latencyNs: { least: 150, typical: 1 * US, most: 2 * US },
    bytePs: { least: perByte(66.5), typical: perByte(66.5), most: perByte(52) },
    queueDepth: 1,
    sectorBytes: 4,
    retries: 0,
    source:
      'datasheet class (Winbond W25Q128JV): Fast Read Quad I/O, 8 clocks of command, 6 of address, 6 of mode and waiting, four lines at 133 MHz: 66.5 MB/s; 104 MHz below 3.0 V: 52 MB/s',
    why: '20 clocks at 133 MHz are 150 ns; the rest of the latency is the controller, an assumption; the array has nothing else to do, so that the worst is near. A sector is a word: reading knows no larger unit',
  },
  {
    name: 'ram',
    title: 'RAM disk',
    latencyNs: { least: 200, typical: 1 * US, most: 4 * US },
    bytePs: { least: perByte(12800), typical: perByte(4000), most: perByte(1000) },
    queueDepth: 1,
    sectorBytes: 512,
    retries: 0,
    source: 'LPDDR4-3200, 32 lines: 12.8 GB/s, of which a copy uses half for reading; the others: assumption',
    why: 'a copy by the processor or a DMA engine in the same memory: 4 GB/s, at worst 1 GB/s behind others; latency is the driver',
  },
];

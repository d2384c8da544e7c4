/** What hands jobs in, of BullMQ: two thirds of the whole program, which most commands never load (`import()` it). */
export { getNextMillis, Queue } from 'bullmq';

// Stands for a module that bundle.mjs leaves out.
module.exports = {};
